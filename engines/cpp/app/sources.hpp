// What the arguments of htr-read stand for: images, folders, lists and standard input.
#pragma once

#include <string>
#include <vector>

#include "engine.hpp"

struct Source {
  std::string name, path;
  htr::Bytes content;  // of standard input, where that is an image
  bool from_input = false;
};

std::vector<Source> find_sources(const std::vector<std::string>& arguments);  // throws htr::Error
std::string normal_path(const std::string& path);  // as Python's pathlib writes it
