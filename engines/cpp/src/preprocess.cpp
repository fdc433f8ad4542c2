// Resampling bit for bit as Pillow does it for 8-bit images (src/libImaging/Resample.c), first the rows, then the
// columns. Compiled without contraction of floating-point operations, which would change the coefficients.
#include <algorithm>
#include <cmath>

#include "preprocess.hpp"

namespace htr {
namespace {

constexpr int precision_bits = 32 - 8 - 2;

double bicubic(double x) {  // a = -0.5
  x = std::abs(x);
  if (x < 1.0) return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0.0;
}

struct Weights {  // of one pixel of the output
  int first;  // pixel of the input
  std::vector<std::int32_t> fixed;  // by 2^precision_bits
};

std::vector<Weights> weights_of(int from, int to) {
  const double scale = static_cast<double>(from) / to, stretch = std::max(scale, 1.0);
  const double support = 2.0 * stretch, inverse = 1.0 / stretch;
  std::vector<Weights> all(static_cast<std::size_t>(to));
  std::vector<double> weights;
  for (int pixel = 0; pixel < to; ++pixel) {
    const double centre = (pixel + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int last = std::min(from, static_cast<int>(centre + support + 0.5));
    double sum = 0.0;
    weights.clear();
    for (int x = first; x < last; ++x) {
      weights.push_back(bicubic((x - centre + 0.5) * inverse));
      sum += weights.back();
    }
    auto& one = all[static_cast<std::size_t>(pixel)];
    one.first = first;
    for (double weight : weights) {
      const double scaled = (sum != 0.0 ? weight / sum : weight) * (1 << precision_bits);
      one.fixed.push_back(static_cast<std::int32_t>(scaled + (scaled < 0 ? -0.5 : 0.5)));
    }
  }
  return all;
}

std::uint8_t weighted(const std::uint8_t* pixels, std::size_t step, const Weights& weights) {
  std::int32_t sum = 1 << (precision_bits - 1);
  for (std::int32_t weight : weights.fixed) {
    sum += *pixels * weight;
    pixels += step;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> precision_bits, 0, 255));
}

GreyImage resize_width(const GreyImage& image, int width) {
  if (width == image.width) return image;
  GreyImage out{width, image.height, std::vector<std::uint8_t>(static_cast<std::size_t>(width) * image.height)};
  const auto weights = weights_of(image.width, width);
  auto* target = out.pixels.data();
  for (int y = 0; y < image.height; ++y)
    for (const auto& one : weights)
      *target++ = weighted(&image.pixels[static_cast<std::size_t>(y) * image.width + one.first], 1, one);
  return out;
}

GreyImage resize_height(const GreyImage& image, int height) {
  if (height == image.height) return image;
  GreyImage out{image.width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(image.width) * height)};
  const auto step = static_cast<std::size_t>(image.width);
  auto* target = out.pixels.data();
  for (const auto& one : weights_of(image.height, height))
    for (std::size_t x = 0; x < step; ++x) *target++ = weighted(&image.pixels[step * one.first + x], step, one);
  return out;
}

}  // namespace

int scaled_width(const GreyImage& line, const Preprocessing& spec) {
  const auto width = static_cast<std::int64_t>(line.width) * spec.height / line.height;
  return static_cast<int>(std::clamp<std::int64_t>(width, 1, spec.width));
}

std::vector<std::uint8_t> fit_line(const GreyImage& line, const Preprocessing& spec) {
  if (line.width < 1 || line.height < 1 || line.pixels.size() != static_cast<std::size_t>(line.width) * line.height)
    throw ImageError("the image has no pixels; give an image of a line");
  const int width = scaled_width(line, spec);
  const GreyImage scaled = resize_height(resize_width(line, width), spec.height);
  std::vector<std::uint8_t> tensor(static_cast<std::size_t>(spec.width) * spec.height, 255);
  for (int y = 0; y < spec.height; ++y)
    std::copy_n(&scaled.pixels[static_cast<std::size_t>(y) * width], width,
                &tensor[static_cast<std::size_t>(y) * spec.width]);
  return tensor;
}

Batch batch_of(const std::vector<std::vector<std::uint8_t>>& tensors, const Preprocessing& spec) {
  Batch batch{static_cast<int>(tensors.size()), spec.height, spec.width, {}};
  batch.values.reserve(tensors.size() * spec.width * spec.height);
  // Times the rounded reciprocal, as PyTorch divides: the golden tensors hold to the last bit.
  for (const auto& tensor : tensors)
    for (std::uint8_t grey : tensor) batch.values.push_back(static_cast<float>(grey) * (1.0F / 255.0F));
  return batch;
}

}  // namespace htr
