#include "engine.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "host.hpp"

namespace htr {
namespace {

struct Backend {
  const char* engine;  // its file is htr-backend-ENGINE.so
  const char* cure;  // how to get it
};

constexpr std::array<Backend, 4> backends{{
    {"onnxruntime", "build the reader with ONNX Runtime's headers (Debian: libonnxruntime-dev)"},
    {"openvino", "build the reader where CMake finds OpenVINO (PyPI: openvino)"},
    {"tensorrt", "build the reader where CMake finds NvInfer.h (JetPack, or TensorRT's packages)"},
    {"tensorrt-rtx", "build the reader where CMake finds TensorRT-RTX"},
}};

// The folder of this program or library, where its backends are.
std::string own_folder() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&own_folder), &info);
  const std::string path = info.dli_fname ? info.dli_fname : "";
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

void* load_module(const std::string& file) {
  for (const auto& path : {own_folder() + file, std::string(HTR_MODULES "/") + file, file})
    if (void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return module;
  return nullptr;
}

}  // namespace

std::unique_ptr<Engine> open_engine(ModelFile model, const std::string& engine, int threads) {
  const auto* backend =
      std::find_if(backends.begin(), backends.end(), [&](const Backend& one) { return engine == one.engine; });
  if (backend == backends.end())
    throw MissingEngine("this reader has no engine " + engine + "; use htr-read of the Python package htr-export");
  void* module = load_module("htr-backend-" + engine + ".so");
  if (!module) {
    const std::string reason = dlerror();
    if (reason.find("No such file") == std::string::npos || reason.find("htr-backend-") == std::string::npos)
      throw MissingEngine("the library of " + engine + " cannot be loaded (" + reason + "); add it to the library path");
    throw MissingEngine("this reader was built without " + engine + "; " + backend->cure);
  }
  auto* open = reinterpret_cast<OpenBackend*>(dlsym(module, "htr_open_backend"));
  if (!open) throw EngineError("the backend " + engine + " is of another version; build the reader again");
  return std::unique_ptr<Engine>(open(std::move(model), engine, threads > 0 ? threads : physical_cores()));
}

Logits infer_lines(Engine& engine, const Batch& image_N1HW) {
  const auto& image = image_N1HW;
  if (engine.fixed_width && engine.fixed_width != image.width)
    throw EngineError("the model takes lines of " + std::to_string(engine.fixed_width) + " pixels, these have " +
                      std::to_string(image.width) + "; export it with that width");
  if (!engine.fixed_lines || engine.fixed_lines == image.lines) return engine.infer(image);
  const auto line = static_cast<std::size_t>(image.height) * image.width;
  Logits all;
  for (int first = 0; first < image.lines; first += engine.fixed_lines) {
    const int taken = std::min(engine.fixed_lines, image.lines - first);
    Batch portion{engine.fixed_lines, image.height, image.width, std::vector<float>(line * engine.fixed_lines, 1.0F)};
    std::copy_n(image.values.begin() + static_cast<std::ptrdiff_t>(line * first), line * taken, portion.values.begin());
    const Logits some = engine.infer(portion);
    const auto size = static_cast<std::ptrdiff_t>(some.frames) * some.classes;
    all.frames = some.frames;
    all.classes = some.classes;
    all.lines += taken;
    all.values.insert(all.values.end(), some.values.begin(), some.values.begin() + size * taken);
  }
  return all;
}

}  // namespace htr
