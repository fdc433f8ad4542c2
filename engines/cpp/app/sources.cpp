#include "sources.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "bundle.hpp"
#include "text.hpp"

namespace fs = std::filesystem;

namespace {

bool is_image_name(const std::string& name) {
  static const std::array<const char*, 13> suffixes{".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif",
                                                    ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2"};
  const auto dot = name.rfind('.');
  if (dot == std::string::npos || dot == 0) return false;
  std::string suffix = name.substr(dot);
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char letter) { return std::tolower(letter); });
  return std::find(suffixes.begin(), suffixes.end(), suffix) != suffixes.end();
}

std::string joined(const std::string& folder, const std::string& name) {
  if (!name.empty() && name[0] == '/') return normal_path(name);
  return normal_path(folder + "/" + name);
}

void add_folder(std::vector<Source>& sources, const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_image_name(entry.path().filename())) names.push_back(entry.path().filename());
  if (names.empty())
    throw htr::Error(normal_path(folder) + " holds no image; give the folder that holds the line images");
  std::sort(names.begin(), names.end());
  for (const auto& name : names) sources.push_back({joined(folder, name), joined(folder, name), {}});
}

void add_list(std::vector<Source>& sources, const std::string& list) {
  std::error_code none;
  if (!fs::is_regular_file(list, none))
    throw htr::Error(normal_path(list) + " does not exist; give a list of image paths after the @");
  const htr::Bytes content = htr::read_file(list);
  std::string text(content.begin(), content.end());
  if (text.compare(0, 3, "\xef\xbb\xbf") == 0) text.erase(0, 3);
  if (!htr::is_utf8(text)) throw htr::Error(normal_path(list) + " is not UTF-8 text; save the list as UTF-8");
  const std::string parent = fs::path(normal_path(list)).parent_path();
  for (const auto& row : htr::split_lines(text)) {
    const std::string name = htr::strip(row);
    if (name.empty()) continue;
    std::string found = normal_path(name);
    for (const auto& place : {std::string("."), parent.empty() ? "." : parent, joined(parent.empty() ? "." : parent, "lines")})
      if (fs::is_regular_file(joined(place, name), none)) {
        found = joined(place, name);
        break;
      }
    sources.push_back({name, found, {}});
  }
}

void add_input(std::vector<Source>& sources) {
  const htr::Bytes content{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  const std::string text(content.begin(), content.end());
  const auto names = htr::split_lines(text);
  const bool filled = std::any_of(names.begin(), names.end(), [](const std::string& name) { return !name.empty(); });
  if (!htr::is_utf8(text) || text.find('\0') != std::string::npos || !filled) {
    sources.push_back({"-", "", content, true});
    return;
  }
  for (const auto& name : names)
    if (!htr::strip(name).empty()) sources.push_back({name, normal_path(name), {}});
}

}  // namespace

std::string normal_path(const std::string& path) {
  std::string result(!path.empty() && path[0] == '/' ? "/" : "");
  for (std::size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") result += (result.empty() || result == "/" ? "" : "/") + part;
    at = end + 1;
  }
  return result.empty() ? "." : result;
}

std::vector<Source> find_sources(const std::vector<std::string>& arguments) {
  std::vector<Source> sources;
  std::error_code none;
  for (const auto& argument : arguments) {
    if (argument == "-") add_input(sources);
    else if (argument[0] == '@') add_list(sources, argument.substr(1));
    else if (fs::is_directory(argument, none)) add_folder(sources, argument);
    else sources.push_back({argument, normal_path(argument), {}});
  }
  return sources;
}
