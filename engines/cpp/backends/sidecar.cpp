#include "sidecar.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

namespace htr {
namespace {

std::vector<int> numbers_of(const std::string& text) {
  std::vector<int> numbers;
  for (std::size_t at = 0; at < text.size() && numbers.size() < 3;) {
    if (text[at] < '0' || text[at] > '9') {
      ++at;
      continue;
    }
    std::size_t used = 0;
    numbers.push_back(std::stoi(text.substr(at, 6), &used));
    at += used;
  }
  return numbers;
}

bool version_fits(const Sidecar& sidecar, const std::string& version) {
  const auto built = numbers_of(sidecar.runtime_version), here = numbers_of(version);
  if (built.empty() || here.empty()) return false;
  return sidecar.version_compatible ? built[0] == here[0] && built <= here : built == here;
}

// The compute capability of a target as one number: sm120 -> 120.
int number_of(const std::string& target) { return std::stoi(target.substr(2, 3)); }

bool device_fits(const Sidecar& sidecar, const std::string& capability) {
  const auto parts = numbers_of(capability);
  const int here = parts.at(0) * 10 + parts.at(1);
  if (sidecar.runtime == "tensorrt-rtx")
    return std::any_of(sidecar.targets.begin(), sidecar.targets.end(), [&](const std::string& target) {
      return here == number_of(target) || (target.back() == '+' && here > number_of(target));
    });
  return sidecar.hardware_compatible ? here >= 80 : capability == sidecar.compute_capability;
}

bool is_target(const std::string& target) {
  const auto digits = target.find_first_not_of("0123456789", 2);
  const std::size_t end = digits == std::string::npos ? target.size() : digits;
  return target.compare(0, 2, "sm") == 0 && end >= 4 && end <= 5 && (end == target.size() || target.substr(end) == "+");
}

std::string misfit(const Sidecar& sidecar, const ModelFile& plan, const std::string& runtime, const std::string& version,
                   const std::string& capability) {
  if (runtime != sidecar.runtime) return "it was built with " + sidecar.runtime + ", not with " + runtime;
  if (!version_fits(sidecar, version))
    return "it was built with " + runtime + " " + sidecar.runtime_version + ", here is " + version;
  if (!device_fits(sidecar, capability)) return "it was built for another GPU than compute capability " + capability;
  if (static_cast<std::int64_t>(plan.content.size()) != sidecar.plan_bytes || plan.sha256 != sidecar.plan_sha256)
    return "it is not the plan that its sidecar describes";
  return "";
}

bool takes(const Profile& profile, const Shape& shape) {
  for (std::size_t axis = 1; axis < shape.size(); ++axis)
    if (shape[axis] < profile.min[axis] || shape[axis] > profile.max[axis]) return false;
  return true;
}

}  // namespace

Sidecar read_sidecar(const std::string& text, const std::string& plan) {
  Sidecar sidecar;
  try {
    const auto document = nlohmann::json::parse(text);
    if (document.at("kind") != "htr-export plan" || document.at("schema_version") != 1)
      throw std::invalid_argument("it is of another version");
    sidecar.runtime = document.at("runtime").get<std::string>();
    sidecar.runtime_version = document.at("runtime_version").get<std::string>();
    const auto& capability = document.at("compute_capability");
    if (!capability.is_null()) sidecar.compute_capability = capability.get<std::string>();
    sidecar.targets = document.at("targets").get<std::vector<std::string>>();
    sidecar.hardware_compatible = document.at("hardware_compatible").get<bool>();
    sidecar.version_compatible = document.at("version_compatible").get<bool>();
    sidecar.plan_sha256 = document.at("plan").at("sha256").get<std::string>();
    sidecar.plan_bytes = document.at("plan").at("bytes").get<std::int64_t>();
    sidecar.input = document.at("input").at("name").get<std::string>();
    sidecar.output = document.at("output").at("name").get<std::string>();
    sidecar.command = document.at("command").get<std::string>();
    if (!std::all_of(sidecar.targets.begin(), sidecar.targets.end(), is_target))
      throw std::invalid_argument("'targets' holds another word");
  } catch (const std::exception& error) {
    throw EngineError(plan + ".json is damaged (" + error.what() + "); build the plan again");
  }
  return sidecar;
}

void check_fits(const Sidecar& sidecar, const ModelFile& plan, const std::string& runtime, const std::string& version,
                const std::string& compute_capability) {
  const std::string reason = misfit(sidecar, plan, runtime, version, compute_capability);
  if (!reason.empty())
    throw EngineError(plan.path + " cannot be used: " + reason + "; build it again on this machine: " + sidecar.command);
}

std::vector<SubBatch> split_batch(const std::vector<Profile>& profiles, const Shape& shape) {
  std::int64_t largest = 0;
  for (const auto& profile : profiles)
    if (takes(profile, shape)) largest = std::max(largest, profile.max[0]);
  if (largest < 1)
    throw EngineError("the plan does not take lines of " + std::to_string(shape[2]) + " x " + std::to_string(shape[3]) +
                      " pixels; build it with 'htr-export trt' for that width");
  std::vector<SubBatch> parts;
  for (std::int64_t left = shape[0]; left > 0; left -= parts.back().lines) {
    const std::int64_t lines = std::min(left, largest);
    // Those that take it, with the least filling, tuned the nearest.
    const auto cost = [&](const Profile& profile) {
      const std::int64_t batch = std::max(lines, profile.min[0]);
      return std::make_tuple(!takes(profile, shape), batch > profile.max[0], batch, std::abs(profile.opt[0] - batch));
    };
    const auto best = std::min_element(profiles.begin(), profiles.end(), [&](const Profile& left_one, const Profile& right_one) {
      return cost(left_one) < cost(right_one);
    });
    parts.push_back({static_cast<int>(best - profiles.begin()), static_cast<int>(lines),
                     {std::max(lines, best->min[0]), shape[1], shape[2], shape[3]}});
  }
  return parts;
}

}  // namespace htr
