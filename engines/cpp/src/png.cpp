// PNG by libpng's low-level interface: the simplified one would apply gAMA, which Pillow does not.
#include <png.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "image.hpp"

namespace htr {
namespace {

class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, [](png_structp, png_const_charp) {});
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) throw std::bad_alloc();
    png_set_read_fn(png_, this, read);
#ifdef PNG_CHECK_FOR_INVALID_INDEX_SUPPORTED
    png_set_check_for_invalid_index(png_, 0);
#endif
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, 0);
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void open() {
    if (!header()) throw Damaged{message_};
    check_size(width, height);
    rows_.resize(height);
    samples.assign(png_get_rowbytes(png_, info_) * height, 0);
    for (std::size_t row = 0; row < height; ++row) rows_[row] = &samples[row * (samples.size() / height)];
    if (!pixels()) throw Damaged{message_};
  }

  // A sample of a row; of 16 bits the upper 8.
  unsigned at(std::size_t row, std::size_t index) const { return rows_[row][bits == 16 ? 2 * index : index]; }
  unsigned deep_at(std::size_t row, std::size_t index) const {
    return static_cast<unsigned>(rows_[row][2 * index] << 8 | rows_[row][2 * index + 1]);
  }

  int orientation() const {
    png_uint_32 size = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(png_, info_, &size, &exif) && exif) {
      if (const int found = exif_orientation(exif, size)) return found;
    }
    png_textp texts = nullptr;
    const int count = png_get_text(png_, info_, &texts, nullptr);
    for (int index = 0; index < count; ++index)
      if (!std::strcmp(texts[index].key, "XML:com.adobe.xmp") && texts[index].text)
        return xmp_orientation(texts[index].text);
    return 0;
  }

  unsigned width = 0, height = 0;
  int bits = 0, type = 0;
  std::array<png_color, 256> palette{};  // entries that the file lacks are black
  std::array<std::uint8_t, 256> alphas{};
  bool has_alphas = false, has_key = false;
  png_color_16 key{};
  std::vector<std::uint8_t> samples;

 private:
  // No object with a destructor may be created between setjmp and libpng's longjmp.
  bool header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_info(png_, info_);
    width = png_get_image_width(png_, info_);
    height = png_get_image_height(png_, info_);
    bits = png_get_bit_depth(png_, info_);
    type = png_get_color_type(png_, info_);
    png_colorp colours = nullptr;
    int count = 0;
    if (png_get_PLTE(png_, info_, &colours, &count)) std::copy_n(colours, std::min(count, 256), palette.begin());
    alphas.fill(255);
    png_bytep values = nullptr;
    png_color_16p colour = nullptr;
    if (png_get_tRNS(png_, info_, &values, &count, &colour)) {
      has_alphas = type == PNG_COLOR_TYPE_PALETTE;
      has_key = !has_alphas && colour;
      if (has_alphas) std::copy_n(values, std::min(count, 256), alphas.begin());
      if (has_key) key = *colour;
    }
    png_set_packing(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  bool pixels() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_image(png_, rows_.data());
    // What follows the pixels may be cut off, as in Pillow.
    if (setjmp(png_jmpbuf(png_))) return true;
    png_read_end(png_, info_);
    return true;
  }

  static void fail(png_structp png, png_const_charp message) {
    auto* self = static_cast<Reader*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof self->message_ - 1);
    png_longjmp(png, 1);
  }

  static void read(png_structp png, png_bytep target, std::size_t size) {
    auto* self = static_cast<Reader*>(png_get_io_ptr(png));
    if (size > self->left_) png_error(png, "image file is truncated");
    std::memcpy(target, self->data_, size);
    self->data_ += size;
    self->left_ -= size;
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  const std::uint8_t* data_;
  std::size_t left_;
  char message_[96] = {};
  std::vector<png_bytep> rows_;
};

// How a pixel of row y and column x becomes grey.
template <typename Grey>
GreyImage each(const Reader& png, Grey grey) {
  GreyImage page{static_cast<int>(png.width), static_cast<int>(png.height), {}};
  page.pixels.reserve(static_cast<std::size_t>(png.width) * png.height);
  for (unsigned y = 0; y < png.height; ++y)
    for (unsigned x = 0; x < png.width; ++x) page.pixels.push_back(grey(y, x));
  return page;
}

GreyImage grey_page(const Reader& png, bool white) {
  if (png.bits == 16) {
    std::vector<std::uint16_t> values;
    for (unsigned y = 0; y < png.height; ++y)
      for (unsigned x = 0; x < png.width; ++x) values.push_back(static_cast<std::uint16_t>(png.deep_at(y, x)));
    return from_deep(static_cast<int>(png.width), static_cast<int>(png.height), values);
  }
  const unsigned factor = 255U / ((1U << png.bits) - 1);
  // Pillow compares the key with the scaled grey; for 1 bit it scales the key as well.
  const unsigned key = png.bits == 1 ? (png.key.gray ? 255 : 0) : png.key.gray & 0xff;
  return each(png, [&, keyed = white && png.has_key](unsigned y, unsigned x) {
    const unsigned value = png.at(y, x) * factor;
    return static_cast<std::uint8_t>(keyed && value == key ? 255 : value);
  });
}

GreyImage palette_page(const Reader& png, bool white) {
  std::array<std::uint8_t, 256> greys{};
  for (std::size_t index = 0; index < greys.size(); ++index) {
    const auto& colour = png.palette[index];
    greys[index] = white && png.has_alphas
                       ? luma_over_white(colour.red, colour.green, colour.blue, png.alphas[index])
                       : luma(colour.red, colour.green, colour.blue);
  }
  return each(png, [&](unsigned y, unsigned x) { return greys[png.at(y, x)]; });
}

GreyImage colour_page(const Reader& png, bool white) {
  if (png.type == PNG_COLOR_TYPE_GRAY_ALPHA)
    return each(png, [&](unsigned y, unsigned x) {
      const unsigned value = png.at(y, 2 * x);
      return white ? over_white(value, png.at(y, 2 * x + 1)) : static_cast<std::uint8_t>(value);
    });
  const unsigned channels = png.type == PNG_COLOR_TYPE_RGB_ALPHA ? 4 : 3;
  const auto low = [](unsigned value) { return value & 0xff; };
  const unsigned red = low(png.key.red), green = low(png.key.green), blue = low(png.key.blue);
  return each(png, [&, keyed = white && png.has_key](unsigned y, unsigned x) {
    const unsigned r = png.at(y, channels * x), g = png.at(y, channels * x + 1), b = png.at(y, channels * x + 2);
    if (channels == 4 && white) return luma_over_white(r, g, b, png.at(y, 4 * x + 3));
    return keyed && r == red && g == green && b == blue ? std::uint8_t{255} : luma(r, g, b);
  });
}

}  // namespace

Decoded decode_png(const std::uint8_t* data, std::size_t size, Alpha alpha) {
  Reader png(data, size);
  png.open();
  const bool white = alpha == Alpha::white;
  GreyImage page = png.type == PNG_COLOR_TYPE_GRAY      ? grey_page(png, white)
                   : png.type == PNG_COLOR_TYPE_PALETTE ? palette_page(png, white)
                                                        : colour_page(png, white);
  Decoded pages;
  pages.push_back(upright(std::move(page), png.orientation()));
  return pages;
}

}  // namespace htr
