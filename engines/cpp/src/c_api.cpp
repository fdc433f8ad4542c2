#include <cstring>

#include "htr.h"
#include "htr/htr.hpp"
#include "text.hpp"

struct htr_recognizer {
  htr::Recognizer recognizer;
};

namespace {

thread_local std::string last_error;

// Runs a function whose errors become NULL and a message.
template <typename Work>
auto guarded(Work work) noexcept -> decltype(work()) {
  try {
    last_error.clear();
    return work();
  } catch (const std::exception& error) {
    try {
      last_error = error.what();
    } catch (...) {
    }
    return nullptr;
  }
}

char* result_of(const htr::Reading& reading) {
  const std::string text = "{" + htr::json_fields(reading) + "}";
  return std::strcpy(new char[text.size() + 1], text.c_str());
}

}  // namespace

extern "C" {

htr_recognizer* htr_open(const char* bundle, const char* engine, int threads) {
  return guarded([&] {
    return new htr_recognizer{htr::Recognizer(bundle, {engine ? engine : "", threads, std::nullopt})};
  });
}

void htr_close(htr_recognizer* recognizer) { delete recognizer; }

char* htr_read_file(htr_recognizer* recognizer, const char* path) {
  return guarded([&] { return result_of(recognizer->recognizer.read(std::string(path))); });
}

char* htr_read_image(htr_recognizer* recognizer, const uint8_t* data, size_t size) {
  return guarded([&] { return result_of(recognizer->recognizer.read(data, size)); });
}

char* htr_read_grey(htr_recognizer* recognizer, const uint8_t* pixels, int width, int height, ptrdiff_t stride) {
  return guarded([&] {
    if (width < 1 || height < 1) throw htr::ImageError("the image has no pixels; give an image of a line");
    htr::GreyImage image{width, height, {}};
    for (int row = 0; row < height; ++row, pixels += stride) image.pixels.insert(image.pixels.end(), pixels, pixels + width);
    return result_of(recognizer->recognizer.read({image}).at(0));
  });
}

void htr_free(char* result) { delete[] result; }

const char* htr_selection(const htr_recognizer* recognizer) { return recognizer->recognizer.selection().c_str(); }
const char* htr_last_error(void) { return last_error.c_str(); }
const char* htr_version(void) { return HTR_VERSION; }
}
