#include "selection.hpp"

#include <algorithm>
#include <exception>
#include <map>

#include "host.hpp"

namespace htr {
namespace {

using Ranks = std::map<std::string, int>;

// By engine and precision, as the backends of htr_engines state them; the lower the faster. Engines without ranks are
// used only when they are named.
const std::map<std::string, Ranks> ranks{
    {"tensorrt", {{"int8", 10}, {"mixed", 11}, {"fp16", 12}, {"bf16", 13}, {"fp32", 14}}},
    {"tensorrt-rtx", {{"fp16", 20}, {"mixed", 21}, {"bf16", 22}, {"int8", 23}, {"fp32", 24}}},
    {"onnxruntime-cuda", {{"fp16", 30}, {"mixed", 31}, {"bf16", 32}, {"fp32", 33}, {"int8", 34}}},
    {"openvino", {{"int8", 40}, {"mixed", 41}, {"fp32", 60}, {"fp16", 80}, {"bf16", 81}}},
    {"onnxruntime", {{"int8", 50}, {"mixed", 51}, {"fp32", 70}, {"fp16", 90}, {"bf16", 91}}},
};

int rank_of(const Candidate& candidate) {
  const auto engine = ranks.find(candidate.engine);
  if (engine == ranks.end()) return 1000;
  const auto precision = engine->second.find(candidate.model->precision);
  return precision == engine->second.end() ? 1000 : precision->second;
}

// Lets the offers that were measured on such a machine exchange their places by what was measured.
void sort_by_latency(std::vector<Candidate>& ranked) {
  std::vector<std::size_t> places;
  std::string here;
  for (std::size_t place = 0; place < ranked.size(); ++place) {
    const auto& latency = ranked[place].model->latency;
    const auto measured = latency.find(ranked[place].engine);
    if (measured == latency.end()) continue;
    if (here.empty()) here = hardware();
    if (measured->second.hardware == here) places.push_back(place);
  }
  std::vector<Candidate> measured;
  for (std::size_t place : places) measured.push_back(ranked[place]);
  std::stable_sort(measured.begin(), measured.end(), [](const Candidate& left, const Candidate& right) {
    return left.model->latency.at(left.engine).seconds < right.model->latency.at(right.engine).seconds;
  });
  for (std::size_t index = 0; index < places.size(); ++index) ranked[places[index]] = measured[index];
}

std::vector<std::size_t> proven_first(const std::vector<Candidate>& ranked) {
  std::vector<std::size_t> order;
  for (int doubt = 0; doubt <= 2; ++doubt)
    for (std::size_t index = 0; index < ranked.size(); ++index)
      if (ranked[index].doubt() == doubt) order.push_back(index);
  return order;
}

// The offers with their reasons, those of one engine and reason together.
std::string listed(const std::vector<Candidate>& passed, const std::vector<std::string>& reasons) {
  std::string text;
  for (std::size_t first = 0; first < passed.size(); ++first) {
    std::string names;
    bool listed_before = false;
    for (std::size_t index = 0; index < passed.size(); ++index) {
      if (passed[index].engine != passed[first].engine || reasons[index] != reasons[first]) continue;
      listed_before = listed_before || index < first;
      names += (names.empty() ? "" : ", ") + passed[index].model->file;
    }
    if (!listed_before) text += (first ? ", " : "") + passed[first].engine + " with " + names + " (" + reasons[first] + ")";
  }
  return text;
}

}  // namespace

int Candidate::doubt() const { return model->verdicts.count(engine) ? 0 : model->verdicts.empty() ? 2 : 1; }

std::string Candidate::verdict() const {
  if (doubt() == 0) return model->verdicts.at(engine) + " with " + engine;
  if (doubt() == 2) return "not validated";
  std::string others;
  for (const auto& one : model->verdicts) others += (others.empty() ? "" : ", ") + one.first;
  return "not validated with " + engine + ", but with " + others;
}

std::vector<Candidate> candidates(const Bundle& bundle, const std::string& engine) {
  std::vector<Candidate> found;
  for (const auto& model : bundle.models)
    for (const auto& name : model.engines)
      if (engine.empty() ? ranks.count(name) > 0 : name == engine) found.push_back({&model, name});
  std::stable_sort(found.begin(), found.end(),
                   [](const Candidate& left, const Candidate& right) { return rank_of(left) < rank_of(right); });
  sort_by_latency(found);
  return found;
}

std::string first_choice(const Bundle& bundle, const std::string& engine) {
  const auto ranked = candidates(bundle, engine);
  return ranked.empty() ? "" : ranked[proven_first(ranked)[0]].model->file;
}

std::unique_ptr<Engine> open_candidate(Bundle& bundle, const Candidate& candidate, int threads) {
  const std::string& file = candidate.model->file;
  ModelFile model{bundle.path(file), bundle.content(file), bundle.digest(file), ""};
  if (candidate.engine.compare(0, 8, "tensorrt") == 0) {
    const Bytes sidecar = bundle.content(file + ".json");
    model.sidecar.assign(sidecar.begin(), sidecar.end());
  }
  return open_engine(std::move(model), candidate.engine, threads);
}

std::string brief(const Bundle& bundle, const Candidate& candidate, const Error& error) {
  std::string text = error.what();
  text = text.substr(0, text.find("; "));
  const std::string file = bundle.path(candidate.model->file), prefix = file + " cannot be used: ";
  if (text.compare(0, prefix.size(), prefix) == 0) text.erase(0, prefix.size());
  for (auto at = text.find(file); at != std::string::npos; at = text.find(file, at)) text.replace(at, file.size(), "it");
  return text;
}

Selection select(Bundle& bundle, const std::string& engine, int threads) {
  const auto ranked = candidates(bundle, engine);
  if (ranked.empty()) {
    std::vector<std::string> names;
    for (const auto& model : bundle.models)
      for (const auto& name : model.engines)
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
    throw EngineError(bundle.folder + " has no model for " + engine + "; it has models for: " + text);
  }
  std::vector<std::string> reasons(ranked.size(), "not validated");
  std::vector<Candidate> failed;
  std::vector<std::string> failures;
  std::exception_ptr first;
  for (std::size_t index : proven_first(ranked)) {
    const Candidate& candidate = ranked[index];
    try {
      auto opened = open_candidate(bundle, candidate, threads);
      std::string text = candidate.engine + " reads " + candidate.model->file + " (" + candidate.model->precision + "; " +
                         candidate.verdict() + ")";
      if (index)
        text += "; rejected: " + listed({ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(index)}, reasons);
      return {candidate.model, std::move(opened), text};
    } catch (const BundleError&) {
      throw;
    } catch (const Error& error) {
      if (!first) first = std::current_exception();
      failed.push_back(candidate);
      reasons[index] = brief(bundle, candidate, error);
      failures.push_back(reasons[index]);
    }
  }
  if (!engine.empty()) std::rethrow_exception(first);
  throw EngineError("nothing on this machine runs a model of " + bundle.folder + ": " + listed(failed, failures) +
                    "; set HTR_ONNXRUNTIME to libonnxruntime.so, or build the reader with another engine");
}

}  // namespace htr
