#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "bundle.hpp"
#include "preprocess.hpp"

using htr::Alpha;
using htr::Bytes;

namespace {

const std::string folder = std::string(VECTORS) + "/";

nlohmann::json vectors() {
  std::ifstream file(folder + "vectors.json");
  return nlohmann::json::parse(file);
}

// Decodes an image; whatever it holds, the result is pages that fit or an ImageError.
void decode(const Bytes& content) {
  try {
    for (const auto& page : htr::load_pages(content.data(), content.size(), Alpha::white, "image")) {
      REQUIRE(page.pixels.size() == static_cast<std::size_t>(page.width) * page.height);
      REQUIRE(htr::fit_line(page, {32, 16, Alpha::white}).size() == 32 * 16);
    }
  } catch (const htr::ImageError&) {
  }
}

}  // namespace

TEST_CASE("every preprocessing vector matches to the last bit") {
  const auto list = vectors();
  const htr::Preprocessing size{list["width"], list["height"], Alpha::white};
  const auto expected = htr::read_npy(htr::read_file(folder + "expected.npy"), "expected.npy");
  REQUIRE(expected.shape[0] == list["images"].size());
  auto tensor = expected.data.begin();
  for (const auto& image : list["images"]) {
    const std::string name = image["file"];
    CAPTURE(name);
    const Alpha alpha = image["alpha"] == "white" ? Alpha::white : Alpha::ignore;
    const auto content = htr::read_file(folder + name);
    const auto pages = htr::load_pages(content.data(), content.size(), alpha, name);
    const auto fitted = htr::fit_line(pages.at(0), size);
    CHECK(std::equal(fitted.begin(), fitted.end(), tensor));
    tensor += static_cast<std::ptrdiff_t>(fitted.size());
  }
}

TEST_CASE("mutated images give pages or an error") {
  std::mt19937 random(2512);
  const auto below = [&](std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  std::vector<std::string> names;
  const auto list = vectors();
  for (const auto& image : list["images"]) names.push_back(image["file"]);
  for (const auto& name : names) {
    const auto original = htr::read_file(folder + name);
    for (int round = 0; round < 200; ++round) {
      Bytes content = original;
      for (std::size_t change = 0; change <= below(6); ++change)
        content[below(content.size())] = static_cast<std::uint8_t>(below(256));
      if (round % 3 == 0) content.resize(1 + below(content.size()));
      decode(content);
    }
  }
}

#ifdef HTR_TIFF
TEST_CASE("mutated TIFFs give pages or an error") {
  // 8x2 grey pixels, raw: II*, the pixels at 8, the directory at 24.
  Bytes tiff{'I', 'I', '*', 0, 24, 0, 0, 0};
  for (int pixel = 0; pixel < 16; ++pixel) tiff.push_back(static_cast<std::uint8_t>(16 * pixel));
  const std::uint32_t entries[][3] = {{256, 3, 8}, {257, 3, 2}, {258, 3, 8}, {259, 3, 1}, {262, 3, 1},
                                      {273, 4, 8}, {277, 3, 1}, {278, 3, 2}, {279, 4, 16}};
  tiff.insert(tiff.end(), {9, 0});
  for (const auto& [tag, type, value] : entries)
    for (std::uint32_t part : {tag | type << 16, 1U, value})
      for (int shift = 0; shift < 32; shift += 8) tiff.push_back(static_cast<std::uint8_t>(part >> shift));
  tiff.insert(tiff.end(), 4, 0);
  const auto pages = htr::load_pages(tiff.data(), tiff.size(), Alpha::white, "image");
  REQUIRE(pages.size() == 1);
  CHECK(pages[0].pixels[15] == 240);
  std::mt19937 random(7);
  for (int round = 0; round < 4000; ++round) {
    Bytes content = tiff;
    for (unsigned change = 0; change <= random() % 4; ++change)
      content[random() % content.size()] = static_cast<std::uint8_t>(random());
    decode(content);
  }
}
#endif

TEST_CASE("sizes that the network's line cannot hold are squashed, and empty images refused") {
  const htr::GreyImage wide{3000, 10, Bytes(30000, 0)};
  CHECK(htr::scaled_width(wide, {}) == 512);
  CHECK(htr::fit_line(wide, {}).back() == 0);
  CHECK_THROWS_AS(htr::fit_line({0, 0, {}}, {}), htr::ImageError);
}
