// ONNX Runtime on the CPU. Its library is loaded when the engine is opened, from release 1.19 on: linking it would tie
// the reader to one release.
#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdlib>

#include "engine.hpp"

namespace htr {
namespace {

constexpr std::uint32_t oldest_api = 19;
static_assert(ORT_API_VERSION >= oldest_api, "the reader needs the headers of ONNX Runtime 1.19 or later");

// Returns the loaded library's version.
std::string load_library() {
  const char* named = std::getenv("HTR_ONNXRUNTIME");
  void* library = nullptr;
  for (const char* name : {named, "libonnxruntime.so.1", "libonnxruntime.so"}) {
    if (!library && name) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (named) break;
  }
  if (!library)
    throw MissingEngine("libonnxruntime.so cannot be loaded (" + first_line(dlerror()) +
                        "); install ONNX Runtime, or set HTR_ONNXRUNTIME to its library");
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  const OrtApi* api = base ? base()->GetApi(oldest_api) : nullptr;
  if (!api) throw MissingEngine("libonnxruntime.so is too old; install ONNX Runtime 1.19 or later");
  Ort::InitApi(api);
  return base()->GetVersionString();
}

class OnnxRuntimeEngine final : public Engine {
 public:
  OnnxRuntimeEngine(const ModelFile& model, const std::string& library, int threads)
      : environment_(ORT_LOGGING_LEVEL_FATAL, "htr") {
    version = library;
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    options.SetInterOpNumThreads(1);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);  // what fails is thrown as well
    session_ = Ort::Session(environment_, model.content.data(), model.content.size(), options);
    if (session_.GetInputCount() != 1 || session_.GetOutputCount() != 1)
      throw EngineError(model.path + " should have one input and one output");
    Ort::AllocatorWithDefaultOptions allocator;
    input_ = session_.GetInputNameAllocated(0, allocator).get();
    output_ = session_.GetOutputNameAllocated(0, allocator).get();
    const auto shape = session_.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    if (shape.size() != 4) throw EngineError(model.path + " does not take images [N,1,H,W]; export the model again");
    fixed_lines = static_cast<int>(std::max<std::int64_t>(0, shape[0]));
    fixed_width = static_cast<int>(std::max<std::int64_t>(0, shape[3]));
  }

  Logits infer(const Batch& image) override {
    const std::int64_t shape[] = {image.lines, 1, image.height, image.width};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto input = Ort::Value::CreateTensor<float>(memory, const_cast<float*>(image.values.data()),
                                                       image.values.size(), shape, 4);
    const char *given = input_.c_str(), *made = output_.c_str();
    try {
      const auto outputs = session_.Run(Ort::RunOptions(nullptr), &given, &input, 1, &made, 1);
      const auto info = outputs[0].GetTensorTypeAndShapeInfo();
      const auto axes = info.GetShape();
      if (axes.size() != 3 || info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        throw EngineError("the model does not give float32 logits [N,T,C]; export the model again");
      const float* values = outputs[0].GetTensorData<float>();
      return {static_cast<int>(axes[0]), static_cast<int>(axes[1]), static_cast<int>(axes[2]),
              std::vector<float>(values, values + info.GetElementCount())};
    } catch (const Ort::Exception& error) {
      throw EngineError("ONNX Runtime failed on " + std::to_string(image.lines) + " lines of " +
                        std::to_string(image.width) + " pixels: " + first_line(error.what()));
    }
  }

 private:
  Ort::Env environment_;
  Ort::Session session_{nullptr};
  std::string input_, output_;
};

}  // namespace
}  // namespace htr

extern "C" __attribute__((visibility("default"))) htr::Engine* htr_open_backend(htr::ModelFile model,
                                                                                 const std::string& engine, int threads) {
  const std::string version = htr::load_library();
  try {
    auto* opened = new htr::OnnxRuntimeEngine(model, version, threads);
    opened->name = engine;
    return opened;
  } catch (const Ort::Exception& error) {
    throw htr::EngineError("ONNX Runtime cannot open " + model.path + ": " + htr::first_line(error.what()));
  }
}
