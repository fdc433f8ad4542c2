#pragma once

#include "selection.hpp"

namespace htr {

struct Check {
  bool passed;
  std::string detail;
};

std::vector<Check> check_preprocessing(Bundle& bundle);  // of the images of every kind; needs no engine
std::vector<Check> self_test(Bundle& bundle, const BundledModel& model, Engine& engine);  // the golden lines

}  // namespace htr
