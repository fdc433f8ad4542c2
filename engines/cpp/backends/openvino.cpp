// OpenVINO on the CPU.
#include <algorithm>
#include <openvino/openvino.hpp>

#include "engine.hpp"

namespace htr {
namespace {

// The last line of OpenVINO's message says what was wrong; the others, where.
std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  text.erase(text.find_last_not_of(" \n") + 1);
  return text.substr(text.rfind('\n') + 1);
}

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(const ModelFile& model, int threads) {
    version = ov::get_openvino_version().buildNumber;
    version = version.substr(0, version.find('-'));
    const std::string text(model.content.begin(), model.content.end());
    // Without the hint OpenVINO may compute in bfloat16 where the CPU has it, which is not what was validated.
    const auto compiled =
        core_.compile_model(core_.read_model(text, ov::Tensor()), "CPU", ov::inference_num_threads(threads),
                            ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                            ov::hint::inference_precision(ov::element::f32));
    if (compiled.inputs().size() != 1 || compiled.outputs().size() != 1)
      throw EngineError(model.path + " should have one input and one output");
    const auto shape = compiled.input().get_partial_shape();
    if (shape.size() != 4) throw EngineError(model.path + " does not take images [N,1,H,W]; export the model again");
    if (shape[0].is_static()) fixed_lines = static_cast<int>(shape[0].get_length());
    if (shape[3].is_static()) fixed_width = static_cast<int>(shape[3].get_length());
    request_ = ov::CompiledModel(compiled).create_infer_request();
  }

  Logits infer(const Batch& image) override {
    const auto axis = [](int value) { return static_cast<std::size_t>(value); };
    const ov::Shape shape{axis(image.lines), 1, axis(image.height), axis(image.width)};
    try {
      request_.set_input_tensor(ov::Tensor(ov::element::f32, shape, const_cast<float*>(image.values.data())));
      request_.infer();
      const auto output = request_.get_output_tensor();
      const auto axes = output.get_shape();
      if (axes.size() != 3) throw EngineError("the model does not give logits [N,T,C]; export the model again");
      const float* values = output.data<float>();
      return {static_cast<int>(axes[0]), static_cast<int>(axes[1]), static_cast<int>(axes[2]),
              std::vector<float>(values, values + output.get_size())};
    } catch (const ov::Exception& error) {
      throw EngineError("OpenVINO failed on " + std::to_string(image.lines) + " lines of " +
                        std::to_string(image.width) + " pixels: " + reason_of(error));
    }
  }

 private:
  ov::Core core_;
  ov::InferRequest request_;
};

}  // namespace
}  // namespace htr

extern "C" __attribute__((visibility("default"))) htr::Engine* htr_open_backend(htr::ModelFile model,
                                                                                 const std::string& engine, int threads) {
  try {
    auto* opened = new htr::OpenVinoEngine(model, threads);
    opened->name = engine;
    return opened;
  } catch (const ov::Exception& error) {
    throw htr::EngineError("OpenVINO cannot open " + model.path + ": " + htr::reason_of(error));
  }
}
