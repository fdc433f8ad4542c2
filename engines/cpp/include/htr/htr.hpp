// Reading lines of handwriting with a bundle: the C++ interface. engines/FORMAT.md describes what it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace htr {

// Base of every error that a user can cause or cure; what() is one sentence that says what is wrong and how to fix it.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
class BundleError : public Error {  // a bundle that is incomplete, changed or of an unknown version
  using Error::Error;
};
class ImageError : public Error {  // a file that is not an image of a line that can be read
  using Error::Error;
};
class EngineError : public Error {  // an engine that cannot be opened, or that failed while it ran
  using Error::Error;
};
class MissingEngine : public EngineError {  // an engine whose library or backend is not on this machine
  using EngineError::EngineError;
};

enum class Alpha { white, ignore };  // what shows through transparency: white paper, or nothing is mixed in

struct Preprocessing {
  int width = 512;  // pixels; a longer line is squashed, a shorter one padded
  int height = 64;
  Alpha alpha = Alpha::white;
};

struct GreyImage {  // rows from the top, 8 bits, white = 255, without gaps
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;
};

struct Span {  // a character or a word
  std::string text;  // UTF-8
  double confidence;  // 0 to 1
  double start, end;  // pixels of the image
};

struct Reading {
  std::string text;  // UTF-8
  double confidence = 0;  // 0 to 1
  std::vector<Span> words, characters;
};

struct Options {
  std::string engine;  // empty: the fastest that fits
  int threads = 0;  // 0: all physical cores
  std::optional<Alpha> alpha;  // empty: as the bundle says
};

// Decodes a PNG, JPEG or TIFF file into upright grey pages; only TIFF has several. Throws ImageError.
std::vector<GreyImage> load_pages(const std::uint8_t* data, std::size_t size, Alpha alpha, const std::string& name);

// Fits a line into the network's input: height*width grey values, padded with white on the right.
std::vector<std::uint8_t> fit_line(const GreyImage& line, const Preprocessing& spec);

// Reads lines with a model of a bundle. For one thread at a time; throws htr::Error.
class Recognizer {
 public:
  explicit Recognizer(const std::string& bundle, const Options& options = {});
  Recognizer(Recognizer&&) noexcept;
  Recognizer& operator=(Recognizer&&) noexcept;
  ~Recognizer();

  Reading read(const std::string& path);
  Reading read(const std::uint8_t* data, std::size_t size);  // a file's content
  std::vector<Reading> read(const std::vector<GreyImage>& lines);  // as one batch

  const Preprocessing& preprocessing() const;
  const std::string& selection() const;  // which model and engine read, and why
  const std::string& note() const;  // what a user should know of the bundle; empty if there is nothing

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace htr
