#pragma once

#include <vector>

#include "engine.hpp"

namespace htr {

int scaled_width(const GreyImage& line, const Preprocessing& spec);  // columns of the input that a line fills
Batch batch_of(const std::vector<std::vector<std::uint8_t>>& tensors, const Preprocessing& spec);

}  // namespace htr
