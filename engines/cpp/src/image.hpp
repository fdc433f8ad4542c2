// What the decoders share: rows of samples in, upright 8-bit grey out, by Pillow's arithmetic.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "htr/htr.hpp"

namespace htr {

constexpr std::int64_t max_pixels = 50'000'000;  // of all pages of a file

struct Damaged {  // thrown by decoders; load_pages adds the file's name
  std::string reason;
};
struct TooLarge {};

using Decoded = std::vector<GreyImage>;
Decoded decode_png(const std::uint8_t* data, std::size_t size, Alpha alpha);
Decoded decode_jpeg(const std::uint8_t* data, std::size_t size, Alpha alpha);
Decoded decode_tiff(const std::uint8_t* data, std::size_t size, Alpha alpha);

// As load_pages, of a file.
std::vector<GreyImage> load_file(const std::string& path, Alpha alpha);

// Why an image is probably no line of text; empty if it may be one.
std::string doubt(const GreyImage& image);

void check_size(std::int64_t width, std::int64_t height, std::int64_t before = 0);  // throws TooLarge or Damaged

// ITU-R 601-2 in 16-bit fixed point.
inline std::uint8_t luma(unsigned red, unsigned green, unsigned blue) {
  return static_cast<std::uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
}

// A channel laid over white, with 7 bits more than the result.
inline std::uint8_t over_white(unsigned value, unsigned alpha) {
  if (alpha == 0) return 255;
  const unsigned sum = value * (alpha * 128) + 255 * ((255 - alpha) * 128) + (0x80 << 7);
  return static_cast<std::uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
}

inline std::uint8_t luma_over_white(unsigned red, unsigned green, unsigned blue, unsigned alpha) {
  return luma(over_white(red, alpha), over_white(green, alpha), over_white(blue, alpha));
}

std::uint8_t luma_of_cmyk(unsigned cyan, unsigned magenta, unsigned yellow, unsigned black);

// Scales deeper greys to 8 bits, by the smallest depth (1, 8 or 16 bits) that holds the brightest pixel.
GreyImage from_deep(int width, int height, const std::vector<std::uint16_t>& values);

// Turns a page as EXIF's orientation 1 to 8 asks; others leave it as it is.
GreyImage upright(GreyImage image, int orientation);

// The orientation in EXIF data, with or without its "Exif" header; 0 where there is none.
int exif_orientation(const std::uint8_t* data, std::size_t size);
int xmp_orientation(const std::string& xmp);

}  // namespace htr
