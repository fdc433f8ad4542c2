// What every backend is to the rest of the code. A backend is built into a module of its own, htr-backend-NAME.so, which
// is loaded when its engine is asked for: so the program starts without the libraries of the others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "htr/htr.hpp"

namespace htr {

using Bytes = std::vector<std::uint8_t>;

struct Batch {  // float32 [N,1,H,W] in [0,1], white = 1
  int lines, height, width;
  std::vector<float> values;
};

struct Logits {  // float32 [N,T,C]; class 0 is the CTC blank
  int lines = 0, frames = 0, classes = 0;
  std::vector<float> values;
};

struct ModelFile {
  std::string path;  // for messages
  Bytes content;
  std::string sha256;  // of the content, and the manifest's
  std::string sidecar;  // JSON text of a plan's sidecar, else empty
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual Logits infer(const Batch& image_N1HW) = 0;

  std::string name, device = "cpu", version;
  int fixed_lines = 0, fixed_width = 0;  // 0: any
};

// Opens a model with the engine asked for, and with no other. Throws EngineError.
std::unique_ptr<Engine> open_engine(ModelFile model, const std::string& engine, int threads);

// Runs any number of lines: a model of fixed batch gets them in its portions, the last one filled up with white.
Logits infer_lines(Engine& engine, const Batch& image_N1HW);

// What a backend's module exports under the name htr_open_backend.
using OpenBackend = Engine*(ModelFile model, const std::string& engine, int threads);

// The first line of a library's message.
inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace htr
