// A plan's sidecar: what the plan is, without a GPU, whether it fits where it is to run, and how a batch is split among
// its profiles. The rules are those of htr_engines.backends.tensorrt.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine.hpp"

namespace htr {

using Shape = std::array<std::int64_t, 4>;  // [N,1,H,W]

struct Profile {
  Shape min, opt, max;
};

struct SubBatch {  // consecutive lines of a batch that are run together
  int profile = 0;
  int lines = 0;  // of the batch given
  Shape shape{};  // of the input; shape[0] - lines of them are white
};

struct Sidecar {
  std::string runtime, runtime_version, compute_capability, plan_sha256, input, output, command;
  std::vector<std::string> targets;  // GPUs that a TensorRT-RTX plan serves, such as "sm86"; "sm120+": and later ones
  bool hardware_compatible = false, version_compatible = false;
  std::int64_t plan_bytes = 0;
};

Sidecar read_sidecar(const std::string& text, const std::string& plan);  // throws EngineError

// Throws EngineError with the reason unless a plan can run on a device.
void check_fits(const Sidecar& sidecar, const ModelFile& plan, const std::string& runtime, const std::string& version,
                const std::string& compute_capability);

// Splits a batch of any size; widths outside all profiles are refused.
std::vector<SubBatch> split_batch(const std::vector<Profile>& profiles, const Shape& shape);

}  // namespace htr
