// Text as the Python reader writes it: JSON records, quoted strings, UTF-8.
#pragma once

#include <string>
#include <vector>

#include "htr/htr.hpp"

namespace htr {

// The characters of UTF-8 text; bytes that are no UTF-8 are kept as single ones.
std::vector<std::string> split_utf8(const std::string& text);
bool is_utf8(const std::string& text);
bool is_space(const std::string& character);  // as Python's str.isspace
std::string strip(const std::string& text);
std::vector<std::string> split_lines(const std::string& text);  // as Python's str.splitlines

std::string quoted(const std::string& text);  // as Python's repr
// With control characters, overrides of direction and bytes that are no UTF-8 as escapes.
std::string printable(const std::string& text);
std::string json_string(const std::string& text);
std::string json_number(double value, int digits);  // rounded, the shortest that says it
std::string json_fields(const Reading& reading);  // "text": ..., "characters": [...]

}  // namespace htr
