// The command line of htr-read, which is that of the Python reader.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "htr/htr.hpp"

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string bundle;
  std::vector<std::string> images;
  htr::Options options;
  int batch_size = 1;
  std::string dump_tensor;  // file
  int verbosity = 0;  // -1 quiet, 1 verbose
  bool json = false, self_test = false, help = false, version = false;
};

extern const char* const usage_line;
extern const char* const help_text;

Arguments parse_arguments(int count, char** values);  // throws UsageError
