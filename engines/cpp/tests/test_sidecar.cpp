#include <doctest/doctest.h>

#include <random>

#include "sidecar.hpp"

namespace {

const std::string text = R"({"kind": "htr-export plan", "schema_version": 1, "runtime": "tensorrt",
  "runtime_version": "10.3.0.30", "compute_capability": "8.7", "targets": [], "hardware_compatible": false,
  "version_compatible": false, "plan": {"sha256": "ab", "bytes": 3}, "input": {"name": "image"},
  "output": {"name": "logits"}, "command": "htr-export trt model.onnx"})";

bool fits(htr::Sidecar sidecar, const std::string& version, const std::string& gpu) {
  const htr::ModelFile plan{"m.plan", {1, 2, 3}, "ab", text};
  try {
    htr::check_fits(sidecar, plan, sidecar.runtime, version, gpu);
  } catch (const htr::EngineError&) {
    return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a plan fits the release and the GPU that its sidecar names") {
  htr::Sidecar sidecar = htr::read_sidecar(text, "m.plan");
  CHECK(fits(sidecar, "10.3.0", "8.7"));
  CHECK_FALSE(fits(sidecar, "10.4.0", "8.7"));
  CHECK_FALSE(fits(sidecar, "10.3.0", "8.6"));
  sidecar.version_compatible = sidecar.hardware_compatible = true;
  CHECK(fits(sidecar, "10.9.1", "12.0"));
  CHECK_FALSE(fits(sidecar, "11.0.0", "12.0"));
  CHECK_FALSE(fits(sidecar, "10.3.0", "7.5"));
  sidecar.version_compatible = false;
  sidecar.runtime = "tensorrt-rtx";
  sidecar.targets = {"sm86", "sm120+"};
  CHECK(fits(sidecar, "10.3.0", "8.6"));
  CHECK(fits(sidecar, "10.3.0", "12.1"));
  CHECK_FALSE(fits(sidecar, "10.3.0", "8.9"));
  sidecar.plan_sha256 = "cd";
  CHECK_FALSE(fits(sidecar, "10.3.0", "8.6"));
}

TEST_CASE("batches are split among the profiles") {
  const std::vector<htr::Profile> profiles{{{1, 1, 64, 512}, {1, 1, 64, 512}, {1, 1, 64, 512}},
                                           {{4, 1, 64, 512}, {8, 1, 64, 512}, {16, 1, 64, 512}}};
  const auto parts = htr::split_batch(profiles, {19, 1, 64, 512});
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].profile == 1);
  CHECK(parts[0].lines == 16);
  CHECK(parts[1].lines == 3);
  CHECK(parts[1].shape[0] == 4);
  CHECK(htr::split_batch(profiles, {1, 1, 64, 512})[0].profile == 0);
  CHECK_THROWS_AS(htr::split_batch(profiles, {1, 1, 64, 256}), htr::EngineError);
}

TEST_CASE("mutated sidecars are read or refused") {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string changed = text;
    for (unsigned change = 0; change <= random() % 3; ++change) changed[random() % changed.size()] = static_cast<char>(random());
    try {
      fits(htr::read_sidecar(changed, "m.plan"), "10.3.0", "8.7");
    } catch (const htr::EngineError&) {
    }
  }
}
