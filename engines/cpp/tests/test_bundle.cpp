#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "ctc.hpp"
#include "selection.hpp"

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Folder {  // removed in the end
  Folder() : path(fs::temp_directory_path() / ("htr-tests-" + std::to_string(std::random_device{}()))) {
    fs::create_directory(path);
  }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name) << text; }
  std::string name() const { return path.string(); }
  fs::path path;
};

json model(const std::string& file, const std::vector<std::string>& engines, const std::string& precision, bool passed) {
  const json validation = passed ? json{{"passed", true}, {"verdict", "PASSED"}, {"engine", "onnxruntime"}}
                                 : json{{"passed", false}, {"verdict", "not validated"}};
  return {{"file", file}, {"engines", engines}, {"precision", precision}, {"validation", validation}};
}

json manifest() {
  // SHA-256 of "abc"
  const json abc{{"sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}};
  return {{"format", "htr-convtext-bundle"},
          {"schema_version", 2},
          {"charset", "aä"},
          {"preprocessing", {{"width", 256}, {"height", 64}}},
          {"models", {model("a.onnx", {"onnxruntime", "openvino"}, "fp32", true),
                      model("b.onnx", {"onnxruntime"}, "int8", false)}},
          {"golden", json::array()},
          {"files", {{"a.onnx", abc}, {"b.onnx", abc}}}};
}

Folder bundle_of(const json& content) {
  Folder folder;
  folder.write("manifest.json", content.dump());
  folder.write("a.onnx", "abc");
  folder.write("b.onnx", "abc");
  return folder;
}

}  // namespace

TEST_CASE("a bundle is read once, hashed, and those bytes are used") {
  const Folder folder = bundle_of(manifest());
  htr::Bundle bundle(folder.name());
  CHECK(bundle.characters == std::vector<std::string>{"a", "ä"});
  bundle.verify("a.onnx");
  folder.write("a.onnx", "another");
  CHECK(bundle.content("a.onnx") == htr::Bytes{'a', 'b', 'c'});
  CHECK_THROWS_WITH_AS(bundle.verify(""), doctest::Contains("a.onnx; copy it again"), htr::BundleError);
  CHECK_THROWS_AS(bundle.content("a.onnx"), htr::BundleError);
}

TEST_CASE("the fastest proven model comes first, or what was measured on this machine") {
  const Folder folder = bundle_of(manifest());
  const htr::Bundle bundle(folder.name());
  const auto ranked = htr::candidates(bundle, "");
  CHECK(ranked[0].name() == "onnxruntime with b.onnx");
  CHECK(ranked[1].name() == "openvino with a.onnx");
  CHECK(htr::first_choice(bundle, "") == "a.onnx");
  CHECK(htr::candidates(bundle, "openvino").size() == 1);
}

TEST_CASE("names that lead outside are refused") {
  for (const std::string name : {"../x", "/etc/passwd", "a/../../b", "..\\x", "", ".."}) {
    CAPTURE(name);
    json content = manifest();
    content["files"][name] = {{"sha256", "0"}};
    const Folder folder = bundle_of(content);
    CHECK_THROWS_WITH_AS(htr::Bundle(folder.name()), doctest::Contains("outside"), htr::BundleError);
  }
}

TEST_CASE("mutated manifests open or are refused") {
  std::mt19937 random(3);
  const std::string original = manifest().dump();
  const Folder folder = bundle_of(manifest());
  for (int round = 0; round < 3000; ++round) {
    std::string text = original;
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const auto at = random() % text.size();
      if (random() % 3 == 0) text.erase(at, random() % 12);
      else if (random() % 2) text.insert(at, std::to_string(static_cast<int>(random())));
      else text[at] = static_cast<char>(random());
    }
    folder.write("manifest.json", text);
    try {
      htr::Bundle bundle(folder.name());
      htr::candidates(bundle, "");
      bundle.verify("");
    } catch (const htr::BundleError&) {
    }
  }
}

TEST_CASE("mutated arrays are read or refused") {
  const Folder folder;
  const std::string path = (folder.path / "x.npy").string();
  htr::write_npy(path, {2, 3}, {1, 2, 3, 4, 5, 6});
  const auto content = htr::read_file(path);
  const auto array = htr::read_npy(content, path);
  CHECK(array.shape == std::vector<std::size_t>{2, 3});
  CHECK(array.data == htr::Bytes{1, 2, 3, 4, 5, 6});
  std::mt19937 random(5);
  for (int round = 0; round < 5000; ++round) {
    auto changed = content;
    for (int change = 0; change < 3; ++change) changed[random() % changed.size()] = static_cast<std::uint8_t>(random());
    if (round % 4 == 0) changed.resize(random() % changed.size());
    try {
      std::size_t count = 1;
      const auto read = htr::read_npy(changed, path);
      for (auto axis : read.shape) count *= axis;
      REQUIRE(read.data.size() == count * (read.kind == 'f' ? 4 : 1));
    } catch (const htr::BundleError&) {
    }
  }
}

TEST_CASE("decoding merges repeats, drops blanks and gives confidences") {
  const float high = std::log(8.0F);  // of three classes: 0.8
  htr::Logits logits{1, 6, 3, {0, high, 0, 0, high, 0, high, 0, 0, 0, high, 0, 0, 0, high, high, 0, 0}};
  const auto reading = htr::decode_greedy(logits, {"a", " "}).at(0);
  CHECK(reading.text == "aa ");
  CHECK(reading.confidence == doctest::Approx(0.8));
  REQUIRE(reading.words.size() == 1);
  CHECK(reading.words[0].text == "aa");
  CHECK(reading.words[0].end == 4);
  CHECK(reading.characters[0].end == 2);
  logits.values[3] = std::numeric_limits<float>::quiet_NaN();  // such a frame is a blank
  CHECK(htr::decode_greedy(logits, {"a", " "}).at(0).characters[0].end == 1);
  CHECK_THROWS_AS(htr::decode_greedy(logits, {"a"}), htr::EngineError);
}

TEST_CASE("a bundle with a language model opens, and says that its decoder is another one") {
  json content = manifest();
  CHECK(!htr::Bundle(bundle_of(content).name()).beam_search);
  content["schema_version"] = 4;
  content["decoding"] = {{"method", "ctc-beam"}, {"language_model", "lm.htrlm"}};
  content["preprocessing_vectors"] = {{"width", 64}, {"height", 64}, {"tensors", "a.onnx"}, {"images", json::array()}};
  CHECK(htr::Bundle(bundle_of(content).name()).beam_search);
  content["schema_version"] = 5;
  CHECK_THROWS_WITH_AS(htr::Bundle(bundle_of(content).name()), doctest::Contains("this release reads 2 to 4"), htr::BundleError);
}
