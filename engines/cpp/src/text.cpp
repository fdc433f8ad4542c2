#include "text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace htr {
namespace {

struct Decoded {
  unsigned code;  // of what is no UTF-8, the byte
  std::size_t length;  // 0 for what is no UTF-8
};

Decoded decoded_at(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t index) { return index < text.size() ? static_cast<unsigned char>(text[index]) : 0U; };
  const unsigned first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  unsigned code = first & 0xffU >> (length + 1);
  for (std::size_t index = 1; index < length; ++index) {
    if ((byte(at + index) & 0xc0) != 0x80) return {first, 0};
    code = code << 6 | (byte(at + index) & 0x3f);
  }
  const unsigned least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  const bool character = first >= 0xc0 && first < 0xf8 && code >= least && code <= 0x10ffff && code >> 11 != 0x1b;
  return character ? Decoded{code, length} : Decoded{first, 0};
}

std::size_t length_at(const std::string& text, std::size_t at) { return decoded_at(text, at).length; }
unsigned code_point(const std::string& character) { return decoded_at(character, 0).code; }

std::string formatted(const char* format, unsigned value) {
  char text[16];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string json_span(const Span& span) {
  return "{\"text\": " + json_string(span.text) + ", \"confidence\": " + json_number(span.confidence, 4) +
         ", \"start\": " + json_number(span.start, 1) + ", \"end\": " + json_number(span.end, 1) + "}";
}

std::string json_list(const std::vector<Span>& spans) {
  std::string text;
  for (const auto& span : spans) text += (text.empty() ? "" : ", ") + json_span(span);
  return "[" + text + "]";
}

}  // namespace

std::vector<std::string> split_utf8(const std::string& text) {
  std::vector<std::string> characters;
  for (std::size_t at = 0; at < text.size(); at += characters.back().size())
    characters.push_back(text.substr(at, std::max<std::size_t>(1, length_at(text, at))));
  return characters;
}

bool is_utf8(const std::string& text) {
  for (std::size_t at = 0, length = 0; at < text.size(); at += length)
    if ((length = length_at(text, at)) == 0) return false;
  return true;
}

bool is_space(const std::string& character) {
  static const std::array<unsigned, 16> others{0x20,   0x85,   0xa0,   0x1680, 0x2000, 0x2028, 0x2029, 0x202f,
                                               0x205f, 0x3000, 0x1c,   0x1d,   0x1e,   0x1f,   0x09,   0x0d};
  const unsigned code = code_point(character);
  return (code >= 0x09 && code <= 0x0d) || (code >= 0x2000 && code <= 0x200a) ||
         (length_at(character, 0) && std::find(others.begin(), others.end(), code) != others.end());
}

std::string strip(const std::string& text) {
  auto characters = split_utf8(text);
  while (!characters.empty() && is_space(characters.back())) characters.pop_back();
  const auto first = std::find_if_not(characters.begin(), characters.end(), is_space);
  std::string stripped;
  std::for_each(first, characters.end(), [&](const std::string& character) { stripped += character; });
  return stripped;
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::string line;
  bool open = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::string character = text.substr(at, std::max<std::size_t>(1, length_at(text, at)));
    at += character.size();
    const unsigned code = code_point(character);
    const bool ends = (code >= 0x0a && code <= 0x0d) || (code >= 0x1c && code <= 0x1e) || code == 0x2028 ||
                      code == 0x2029 || (code == 0x85 && character.size() == 2);
    if (code == '\r' && at < text.size() && text[at] == '\n') ++at;
    open = !ends;
    if (!ends) line += character;
    else lines.push_back(std::exchange(line, ""));
  }
  if (open) lines.push_back(line);
  return lines;
}

std::string quoted(const std::string& text) {
  const bool single = text.find('\'') == std::string::npos || text.find('"') != std::string::npos;
  const char quote = single ? '\'' : '"';
  std::string result(1, quote);
  for (const auto& character : split_utf8(text)) {
    const unsigned code = code_point(character);
    if (!length_at(character, 0)) result += formatted("\\udc%02x", code);
    else if (code == '\\' || code == static_cast<unsigned>(quote)) result += "\\" + character;
    else if (code == '\n') result += "\\n";
    else if (code == '\r') result += "\\r";
    else if (code == '\t') result += "\\t";
    else if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0xad) result += formatted("\\x%02x", code);
    else if (code != ' ' && is_space(character)) result += formatted("\\u%04x", code);
    else result += character;
  }
  return result + quote;
}

std::string printable(const std::string& text) {
  std::string result;
  for (const auto& character : split_utf8(text)) {
    const unsigned code = code_point(character);
    const bool unsafe = code < 0x20 || (code >= 0x7f && code <= 0x9f) || (code >= 0x2028 && code <= 0x202e) ||
                        (code >= 0x2066 && code <= 0x2069);
    if (!length_at(character, 0)) result += formatted("\\udc%02x", code);
    else result += unsafe ? formatted("\\u%04x", code) : character;
  }
  return result;
}

std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const auto& character : split_utf8(text)) {
    static const std::string plain = "\"\\\n\r\t\b\f", letters = "\"\\nrtbf";
    const auto found = character.size() == 1 ? plain.find(character[0]) : std::string::npos;
    if (found != std::string::npos) result += std::string("\\") + letters[found];
    else if (code_point(character) < 0x20) result += formatted("\\u%04x", code_point(character));
    else result += character;
  }
  return printable(result + "\"");
}

std::string json_number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  std::string number = text;
  number.erase(std::max(number.find_last_not_of('0') + 1, number.find('.') + 2));
  return number;
}

std::string json_fields(const Reading& reading) {
  return "\"text\": " + json_string(reading.text) + ", \"confidence\": " + json_number(reading.confidence, 4) +
         ", \"words\": " + json_list(reading.words) + ", \"characters\": " + json_list(reading.characters);
}

}  // namespace htr
