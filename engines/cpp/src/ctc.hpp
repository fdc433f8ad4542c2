#pragma once

#include <string>
#include <vector>

#include "engine.hpp"

namespace htr {

// Decodes by the best class of each frame: merges repeats, then drops blanks. Places are frames.
std::vector<Reading> decode_greedy(const Logits& logits_NTC, const std::vector<std::string>& characters);

}  // namespace htr
