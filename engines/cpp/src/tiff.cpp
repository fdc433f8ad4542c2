// TIFF by libtiff: every page, in strips or tiles, of the kinds that scanners write.
#include "image.hpp"

#ifndef HTR_TIFF
namespace htr {
Decoded decode_tiff(const std::uint8_t*, std::size_t, Alpha) {
  throw Damaged{"this reader was built without TIFF, which needs libtiff-dev"};
}
}  // namespace htr
#else
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace htr {
namespace {

struct Content {
  const std::uint8_t* data;
  toff_t size, position = 0;
};

tmsize_t read(thandle_t handle, void* target, tmsize_t size) {
  auto& file = *static_cast<Content*>(handle);
  if (file.position >= file.size) return 0;
  const auto taken = std::min<toff_t>(static_cast<toff_t>(size), file.size - file.position);
  std::memcpy(target, file.data + file.position, taken);
  file.position += taken;
  return static_cast<tmsize_t>(taken);
}

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto& file = *static_cast<Content*>(handle);
  const toff_t base = whence == SEEK_CUR ? file.position : whence == SEEK_END ? file.size : 0;
  return file.position = base + offset;
}

struct Layout {  // of a page's samples
  std::uint32_t width = 0, height = 0;
  std::uint16_t bits = 1, samples = 1, photometric = PHOTOMETRIC_MINISBLACK, compression = COMPRESSION_NONE;
  bool alpha = false;
};

template <typename Value>
Value field(TIFF* tiff, std::uint32_t tag, Value fallback) {
  TIFFGetFieldDefaulted(tiff, tag, &fallback);
  return fallback;
}

Layout layout_of(TIFF* tiff) {
  Layout page;
  page.width = field<std::uint32_t>(tiff, TIFFTAG_IMAGEWIDTH, 0);
  page.height = field<std::uint32_t>(tiff, TIFFTAG_IMAGELENGTH, 0);
  page.bits = field<std::uint16_t>(tiff, TIFFTAG_BITSPERSAMPLE, 1);
  page.samples = field<std::uint16_t>(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  page.photometric = field<std::uint16_t>(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  page.compression = field<std::uint16_t>(tiff, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  std::uint16_t extras = 0, *kinds = nullptr;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &extras, &kinds);
  if (page.photometric == PHOTOMETRIC_YCBCR && page.compression == COMPRESSION_JPEG) {
    TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    page.photometric = PHOTOMETRIC_RGB;
  }
  const bool grey = page.photometric <= PHOTOMETRIC_MINISBLACK, rgb = page.photometric == PHOTOMETRIC_RGB;
  const unsigned colours = rgb ? 3 : page.photometric == PHOTOMETRIC_SEPARATED ? 4 : 1;
  page.alpha = page.samples == colours + 1 && (grey || rgb) && (extras == 0 || kinds[0] == EXTRASAMPLE_UNASSALPHA);
  const bool small = page.bits == 1 || page.bits == 2 || page.bits == 4;
  const bool single = page.samples == 1 && page.photometric <= PHOTOMETRIC_PALETTE && !rgb;
  const bool depth = page.bits == 8 || (small && single) || (page.bits == 16 && single && grey);
  const bool known = grey || rgb || page.photometric == PHOTOMETRIC_PALETTE || page.photometric == PHOTOMETRIC_SEPARATED;
  const bool contiguous = field<std::uint16_t>(tiff, TIFFTAG_PLANARCONFIG, 1) == PLANARCONFIG_CONTIG;
  const bool whole = field<std::uint16_t>(tiff, TIFFTAG_SAMPLEFORMAT, 1) == SAMPLEFORMAT_UINT;
  const bool premultiplied = extras && kinds[0] == EXTRASAMPLE_ASSOCALPHA;
  if (!depth || !known || !whole || premultiplied || page.samples < colours || (page.samples > 1 && !contiguous))
    throw Damaged{"a kind of TIFF that this reader does not decode"};
  return page;
}

// Reads all samples, row by row without gaps; strips and tiles alike.
std::vector<std::uint8_t> samples_of(TIFF* tiff, const Layout& page) {
  const auto row = static_cast<std::size_t>(TIFFScanlineSize64(tiff));
  std::vector<std::uint8_t> all(row * page.height);
  if (!TIFFIsTiled(tiff)) {
    for (std::uint32_t y = 0; y < page.height; ++y)
      if (TIFFReadScanline(tiff, &all[row * y], y) < 0) throw Damaged{"image file is truncated"};
    return all;
  }
  const auto across = field<std::uint32_t>(tiff, TIFFTAG_TILEWIDTH, 0), down = field<std::uint32_t>(tiff, TIFFTAG_TILELENGTH, 0);
  const auto tile_row = static_cast<std::size_t>(TIFFTileRowSize64(tiff)), tile_size = static_cast<std::size_t>(TIFFTileSize64(tiff));
  if (!across || !down || tile_size > static_cast<std::size_t>(8 * max_pixels)) throw Damaged{"its tiles are too large"};
  std::vector<std::uint8_t> tile(tile_size);
  for (std::uint32_t y = 0; y < page.height; y += down)
    for (std::uint32_t x = 0; x < page.width; x += across) {
      if (TIFFReadTile(tiff, tile.data(), x, y, 0, 0) < 0) throw Damaged{"image file is truncated"};
      const std::size_t left = static_cast<std::size_t>(x) * page.bits * page.samples / 8;
      for (std::uint32_t line = 0; line < std::min(down, page.height - y); ++line)
        std::copy_n(&tile[line * tile_row], std::min(tile_row, row - left), &all[row * (y + line) + left]);
    }
  return all;
}

std::array<std::uint8_t, 256> greys_of(TIFF* tiff, const Layout& page) {
  std::array<std::uint8_t, 256> greys{};
  const unsigned last = (1U << page.bits) - 1;
  std::uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
  const bool palette = page.photometric == PHOTOMETRIC_PALETTE;
  if (palette && !TIFFGetField(tiff, TIFFTAG_COLORMAP, &red, &green, &blue)) throw Damaged{"it has no palette"};
  for (unsigned value = 0; value <= last; ++value) {
    const unsigned grey = value * (255 / last);
    greys[value] = palette ? luma(red[value] >> 8, green[value] >> 8, blue[value] >> 8)
                           : static_cast<std::uint8_t>(page.photometric == PHOTOMETRIC_MINISWHITE ? 255 - grey : grey);
  }
  return greys;
}

GreyImage grey_of(TIFF* tiff, const Layout& page, bool white) {
  const auto samples = samples_of(tiff, page);
  const int width = static_cast<int>(page.width), height = static_cast<int>(page.height);
  const std::size_t row = samples.size() / page.height, step = page.samples;
  if (page.bits == 16) {
    std::vector<std::uint16_t> deep(static_cast<std::size_t>(width) * height);
    for (std::size_t y = 0; y < page.height; ++y) std::memcpy(&deep[y * width], &samples[row * y], 2U * page.width);
    return from_deep(width, height, deep);
  }
  GreyImage image{width, height, {}};
  image.pixels.reserve(static_cast<std::size_t>(width) * height);
  const bool indexed = page.photometric <= PHOTOMETRIC_PALETTE && page.photometric != PHOTOMETRIC_RGB;
  const auto greys = indexed ? greys_of(tiff, page) : std::array<std::uint8_t, 256>{};
  const unsigned mask = (1U << page.bits) - 1;
  for (std::size_t y = 0; y < page.height; ++y)
    for (std::size_t x = 0; x < page.width; ++x) {
      const std::size_t bit = x * step * page.bits;
      const std::uint8_t* pixel = &samples[row * y + bit / 8];
      const unsigned alpha = page.alpha && white ? pixel[step - 1] : 255;
      if (indexed) image.pixels.push_back(over_white(greys[*pixel >> (8 - page.bits - bit % 8) & mask], alpha));
      else if (page.photometric == PHOTOMETRIC_RGB)
        image.pixels.push_back(luma_over_white(pixel[0], pixel[1], pixel[2], alpha));
      else image.pixels.push_back(luma_of_cmyk(pixel[0], pixel[1], pixel[2], pixel[3]));
    }
  return image;
}

}  // namespace

Decoded decode_tiff(const std::uint8_t* data, std::size_t size, Alpha alpha) {
  TIFFSetWarningHandler(nullptr);
  TIFFSetErrorHandler(nullptr);
  Content content{data, size};
  const auto write = [](thandle_t, void*, tmsize_t) -> tmsize_t { return 0; };
  const std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
      TIFFClientOpen("image", "rm", &content, read, write, seek, [](thandle_t) { return 0; },
                     [](thandle_t handle) { return static_cast<Content*>(handle)->size; }, nullptr, nullptr),
      TIFFClose);
  if (!tiff) throw Damaged{"its header cannot be read"};
  Decoded pages;
  std::int64_t pixels = 0;
  do {
    const Layout page = layout_of(tiff.get());
    check_size(page.width, page.height, pixels);
    pixels += static_cast<std::int64_t>(page.width) * page.height;
    const auto orientation = field<std::uint16_t>(tiff.get(), TIFFTAG_ORIENTATION, 1);
    pages.push_back(upright(grey_of(tiff.get(), page, alpha == Alpha::white), orientation));
  } while (TIFFReadDirectory(tiff.get()));
  return pages;
}

}  // namespace htr
#endif
