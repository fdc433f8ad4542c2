// A bundle: the folder that holds all a device needs to read lines, and the proof that it does. See engines/FORMAT.md.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine.hpp"

namespace htr {

struct MeasuredLatency {
  double seconds;  // median for one line, the engine alone
  std::string hardware;  // that it was measured on
};

struct BundledModel {
  std::string file;  // relative to the bundle, as all names here
  std::vector<std::string> engines;  // that can run it
  std::string precision;
  std::map<std::string, std::string> verdicts;  // of the validations that it passed, by engine
  std::map<std::string, MeasuredLatency> latency;  // by engine
};

struct Expected {
  std::string logits;  // .npy, float32 [T,C]
  std::string text;
};

struct GoldenLine {
  std::string image, tensor;  // PNG; .npy, float32 [1,H,W]
  Expected reference;  // of the most precise model
  std::map<std::string, Expected> models;

  const Expected& expected(const std::string& model) const;
};

struct PreprocessingVector {
  std::string image;
  Alpha alpha;
  int tolerance;  // grey levels
};

struct PreprocessingVectors {
  Preprocessing spec;
  std::string tensors;  // .npy, uint8 [images,H,W]
  std::vector<PreprocessingVector> images;
};

class Bundle {
 public:
  explicit Bundle(std::string folder);  // reads the manifest; throws BundleError

  // Checks every file's SHA-256, and keeps the content of the one that is needed next.
  void verify(const std::string& keep);
  // The content of a file, whose SHA-256 is the manifest's.
  Bytes content(const std::string& name);
  const std::string& digest(const std::string& name) const { return digests_.at(name); }
  std::string path(const std::string& name) const { return folder + "/" + name; }

  std::string folder;
  std::vector<std::string> characters;  // UTF-8; class k is characters[k - 1]
  Preprocessing preprocessing;
  std::vector<BundledModel> models;
  bool beam_search = false;  // whether it was validated with a decoder that this reader does not have
  std::vector<GoldenLine> golden;
  PreprocessingVectors vectors;  // no images in bundles before schema version 3

 private:
  std::map<std::string, std::string> digests_;  // SHA-256 by name
  std::string kept_name_;
  Bytes kept_;
};

std::string file_name(const std::string& path);

// Reads a file in pieces; false if it cannot be read, with errno set.
bool read_pieces(const std::string& path, const std::function<void(const std::uint8_t*, std::size_t)>& piece);
Bytes read_file(const std::string& path);  // throws std::system_error

// An array of numpy's .npy format, of float32 or uint8.
struct Array {
  std::vector<std::size_t> shape;
  char kind = 0;  // 'f' or 'u'
  Bytes data;

  const float* floats() const { return reinterpret_cast<const float*>(data.data()); }
};
Array read_npy(const Bytes& content, const std::string& path);  // throws BundleError
void write_npy(const std::string& path, const std::vector<std::size_t>& shape, const Bytes& data);  // uint8

}  // namespace htr
