#include "image.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <system_error>

#include "bundle.hpp"

namespace htr {

void check_size(std::int64_t width, std::int64_t height, std::int64_t before) {
  if (width < 1 || height < 1) throw Damaged{"it has no pixels"};
  if (before + width * height > max_pixels) throw TooLarge{};
}

std::uint8_t luma_of_cmyk(unsigned cyan, unsigned magenta, unsigned yellow, unsigned black) {
  const unsigned light = 255 - black;
  const auto channel = [light](unsigned ink) {
    const unsigned product = ink * light + 128;
    return light - (((product >> 8) + product) >> 8);
  };
  return luma(channel(cyan), channel(magenta), channel(yellow));
}

GreyImage from_deep(int width, int height, const std::vector<std::uint16_t>& values) {
  const unsigned brightest = *std::max_element(values.begin(), values.end());
  const double factor = 255.0 / (brightest <= 1 ? 1.0 : brightest <= 255 ? 255.0 : 65535.0);
  GreyImage image{width, height, {}};
  image.pixels.reserve(values.size());
  for (unsigned value : values) image.pixels.push_back(static_cast<std::uint8_t>(std::nearbyint(value * factor)));
  return image;
}

GreyImage upright(GreyImage image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const int width = image.width, height = image.height;
  const bool swapped = orientation >= 5;
  GreyImage out{swapped ? height : width, swapped ? width : height, std::vector<std::uint8_t>(image.pixels.size())};
  auto* target = out.pixels.data();
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      const int across = swapped ? y : x, down = swapped ? x : y;
      const bool right_left = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
      const bool bottom_top = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
      const int column = right_left ? width - 1 - across : across;
      const int row = bottom_top ? height - 1 - down : down;
      *target++ = image.pixels[static_cast<std::size_t>(row) * width + column];
    }
  return out;
}

int exif_orientation(const std::uint8_t* data, std::size_t size) {
  while (size >= 6 && !std::memcmp(data, "Exif\0\0", 6)) {
    data += 6;
    size -= 6;
  }
  if (size < 8) return 0;
  const bool little = !std::memcmp(data, "II*\0", 4);
  if (!little && std::memcmp(data, "MM\0*", 4)) return 0;
  const auto number = [&](std::size_t at, int bytes) {
    std::uint32_t value = 0;
    for (int index = 0; index < bytes; ++index)
      value |= static_cast<std::uint32_t>(data[at + index]) << (8 * (little ? index : bytes - 1 - index));
    return value;
  };
  const std::size_t first = number(4, 4);
  if (first > size - 2) return 0;
  const unsigned entries = number(first, 2);
  for (unsigned entry = 0; entry < entries; ++entry) {
    const std::size_t at = first + 2 + 12 * static_cast<std::size_t>(entry);
    if (at + 12 > size) return 0;
    if (number(at, 2) == 0x0112 && number(at + 2, 2) == 3 && number(at + 4, 4) == 1)
      return static_cast<int>(number(at + 8, 2));
  }
  return 0;
}

int xmp_orientation(const std::string& xmp) {
  const std::string tag = "tiff:Orientation";
  for (auto at = xmp.find(tag); at != std::string::npos; at = xmp.find(tag, at + 1)) {
    auto digit = at + tag.size();
    if (xmp.compare(digit, 2, "=\"") == 0) digit += 2;
    else if (xmp.compare(digit, 1, ">") == 0) digit += 1;
    else continue;
    if (digit < xmp.size() && xmp[digit] >= '0' && xmp[digit] <= '9') return xmp[digit] - '0';
  }
  return 0;
}

std::vector<GreyImage> load_pages(const std::uint8_t* data, std::size_t size, Alpha alpha, const std::string& name) {
  const auto starts = [&](const char* magic, std::size_t length) {
    return size >= length && !std::memcmp(data, magic, length);
  };
  if (size == 0) throw ImageError(name + " is empty; give an image file");
  try {
    if (starts("\x89PNG\r\n\x1a\n", 8)) return decode_png(data, size, alpha);
    if (starts("\xff\xd8\xff", 3)) return decode_jpeg(data, size, alpha);
    if (starts("II*\0", 4) || starts("MM\0*", 4)) return decode_tiff(data, size, alpha);
  } catch (const Damaged& damage) {
    throw ImageError(name + " is a damaged image (" + damage.reason + "); save it again or leave it out");
  } catch (const TooLarge&) {
    throw ImageError(name + " has more than " + std::to_string(max_pixels / 1'000'000) +
                     " million pixels; cut it into lines first");
  }
  throw ImageError(name + " is not an image that can be read; give one of PNG, JPEG, TIFF");
}

std::string doubt(const GreyImage& image) {
  if (image.height >= 500 && image.width < 3 * image.height)
    return "it looks like a page (" + std::to_string(image.width) + " x " + std::to_string(image.height) +
           " pixels), not like a line; find its lines first, for example with "
           "'kraken -a -i page.jpg page.xml segment -bl', and read page.xml";
  std::array<std::size_t, 256> counts{};
  for (std::uint8_t grey : image.pixels) ++counts[grey];
  const auto ranked = [&](std::size_t rank) {
    int grey = 0;
    for (std::size_t seen = counts[0]; seen <= rank; seen += counts[static_cast<std::size_t>(grey)]) ++grey;
    return grey;
  };
  const double median = (ranked((image.pixels.size() - 1) / 2) + ranked(image.pixels.size() / 2)) / 2.0;
  return median - ranked(0) < 25 ? "it holds no ink: nothing on it is darker than its paper" : "";
}

std::vector<GreyImage> load_file(const std::string& path, Alpha alpha) {
  try {
    const Bytes content = read_file(path);
    return load_pages(content.data(), content.size(), alpha, path);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::no_such_file_or_directory)
      throw ImageError(path + " does not exist; check the path");
    if (error.code() == std::errc::is_a_directory) throw ImageError(path + " is a folder; give a file");
    if (error.code() == std::errc::invalid_seek)
      throw ImageError(path + " is no regular file; copy what it gives to a file first");
    throw ImageError(path + " cannot be read (" + error.code().message() + "); check the path and its permissions");
  }
}

}  // namespace htr
