// Which model of a bundle reads on this machine, by which engine, and why: the same order as htr_engines.selection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace htr {

struct Candidate {  // a model and an engine that could run it
  const BundledModel* model;
  std::string engine;

  std::string name() const { return engine + " with " + model->file; }
  int doubt() const;  // 0 if the pair is proven, 1 if the model is with another engine, 2 if it is not
  std::string verdict() const;
};

struct Selection {
  const BundledModel* model;
  std::unique_ptr<Engine> engine;
  std::string text;  // what reads, and what was rejected
};

// What a bundle offers, the fastest first; an engine only what it can run.
std::vector<Candidate> candidates(const Bundle& bundle, const std::string& engine);

// The file that select() opens first.
std::string first_choice(const Bundle& bundle, const std::string& engine);

std::unique_ptr<Engine> open_candidate(Bundle& bundle, const Candidate& candidate, int threads);

// Why a candidate does not open, in a few words.
std::string brief(const Bundle& bundle, const Candidate& candidate, const Error& error);

// Opens what is to read a bundle's lines here. Throws EngineError with the reasons if nothing opens.
Selection select(Bundle& bundle, const std::string& engine, int threads);

}  // namespace htr
