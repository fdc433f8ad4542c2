#include "bundle.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "text.hpp"

namespace htr {
namespace {

using nlohmann::json;
constexpr const char* manifest_name = "manifest.json";
constexpr int largest_axis = 1 << 16;

// Returns the SHA-256 of a file, empty if it cannot be read, and its content where that is asked for.
std::string hash_file(const std::string& path, Bytes* content) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  const bool done = read_pieces(path, [&](const std::uint8_t* data, std::size_t size) {
    EVP_DigestUpdate(context.get(), data, size);
    if (content) content->insert(content->end(), data, data + size);
  });
  if (!done) return "";
  std::array<unsigned char, 32> digest{};
  EVP_DigestFinal_ex(context.get(), digest.data(), nullptr);
  std::string hex;
  for (const unsigned char byte : digest)
    for (int shift : {4, 0}) hex += "0123456789abcdef"[byte >> shift & 15];
  return hex;
}

// Returns a name of the manifest; one that leads outside the bundle is refused.
std::string inside(const std::string& folder, const json& value) {
  const auto name = value.get<std::string>();
  const std::string parts = "/" + name + "/";
  if (name.empty() || name[0] == '/' || parts.find("/../") != std::string::npos ||
      name.find_first_of(std::string("\\\0", 2)) != std::string::npos)
    throw BundleError("the manifest of " + folder + " names " + quoted(name) +
                      ", which is outside of it; do not use this bundle");
  return name;
}

int axis(const json& value) {
  const auto number = value.get<std::int64_t>();
  if (number < 1 || number > largest_axis) throw std::invalid_argument("a size of " + std::to_string(number));
  return static_cast<int>(number);
}

Alpha alpha_of(const json& value) {
  const auto name = value.get<std::string>();
  if (name != "white" && name != "ignore") throw std::invalid_argument("alpha is " + name);
  return name == "white" ? Alpha::white : Alpha::ignore;
}

std::vector<std::string> characters_of(const json& value) {
  std::vector<std::string> characters = split_utf8(value.get<std::string>());
  if (characters.empty()) throw std::invalid_argument("the character set is empty");
  const std::set<std::string> seen(characters.begin(), characters.end());
  if (seen.size() != characters.size()) throw std::invalid_argument("the character set holds a character twice");
  return characters;
}

BundledModel model_of(const std::string& folder, const json& entry) {
  BundledModel model;
  model.file = inside(folder, entry.at("file"));
  model.engines = entry.at("engines").get<std::vector<std::string>>();
  model.precision = entry.at("precision").get<std::string>();
  // Older bundles have no more than one validation.
  const json& first = entry.at("validation");
  json validations = entry.value("validations", json::object());
  if (validations.empty() && first.contains("engine")) validations[first.at("engine").get<std::string>()] = first;
  for (const auto& [engine, one] : validations.items())
    if (one.at("passed") == true) model.verdicts[engine] = one.at("verdict").get<std::string>();
  const json latency = entry.value("latency", json::object());
  for (const auto& [engine, one] : latency.items())
    model.latency[engine] = {one.at("seconds").get<double>(), one.at("hardware").get<std::string>()};
  return model;
}

Expected expected_of(const std::string& folder, const json& entry) {
  return {inside(folder, entry.at("logits")), entry.at("text").get<std::string>()};
}

GoldenLine golden_of(const std::string& folder, const json& entry) {
  GoldenLine line{inside(folder, entry.at("image")), inside(folder, entry.at("tensor")),
                  expected_of(folder, entry.at("reference")), {}};
  for (const auto& [name, one] : entry.at("models").items()) line.models[name] = expected_of(folder, one);
  return line;
}

PreprocessingVectors vectors_of(const std::string& folder, const json& entry) {
  PreprocessingVectors vectors{{axis(entry.at("width")), axis(entry.at("height")), Alpha::white},
                               inside(folder, entry.at("tensors")), {}};
  for (const json& one : entry.at("images"))
    vectors.images.push_back({inside(folder, one.at("file")), alpha_of(one.at("alpha")), one.at("tolerance").get<int>()});
  return vectors;
}

json read_manifest(const std::string& folder) {
  const std::string path = folder + "/" + manifest_name;
  Bytes content;
  if (hash_file(path, &content).empty())
    throw BundleError(folder + " is not a bundle: it has no " + manifest_name + "; make one with 'htr-export bundle'");
  json manifest;
  try {
    manifest = json::parse(content.begin(), content.end());
  } catch (const json::exception& error) {
    throw BundleError(path + " is not valid JSON (" + error.what() + "); bundle the model again");
  }
  if (!manifest.is_object() || manifest.value("format", json()) != "htr-convtext-bundle")
    throw BundleError(path + " is not the manifest of a bundle; make one with 'htr-export bundle'");
  const json version = manifest.value("schema_version", json());
  if (version != 2 && version != 3 && version != 4)
    throw BundleError(folder + " has schema version " + (version.is_null() ? "None" : version.dump()) +
                      ", this release reads 2 to 4; install the release that wrote it");
  return manifest;
}

}  // namespace

const Expected& GoldenLine::expected(const std::string& model) const {
  const auto found = models.find(model);
  return found == models.end() ? reference : found->second;
}

Bundle::Bundle(std::string path) : folder(std::move(path)) {
  const json manifest = read_manifest(folder);
  try {
    for (const auto& [name, facts] : manifest.at("files").items())
      digests_[inside(folder, name)] = facts.at("sha256").get<std::string>();
    characters = characters_of(manifest.at("charset"));
    const json& settings = manifest.at("preprocessing");
    preprocessing = {axis(settings.at("width")), axis(settings.at("height")), alpha_of(settings.value("alpha", "white"))};
    beam_search = manifest.value("decoding", json::object()).value("method", "") == "ctc-beam";
    std::vector<std::string> used;
    for (const json& entry : manifest.at("models")) {
      models.push_back(model_of(folder, entry));
      used.push_back(models.back().file);
      const std::string& file = models.back().file;
      if (file.size() > 5 && !file.compare(file.size() - 5, 5, ".plan")) used.push_back(file + ".json");
    }
    for (const json& entry : manifest.at("golden")) {
      golden.push_back(golden_of(folder, entry));
      used.insert(used.end(), {golden.back().image, golden.back().tensor, golden.back().reference.logits});
      for (const auto& one : golden.back().models) used.push_back(one.second.logits);
    }
    if (manifest.at("schema_version") >= 3) {
      vectors = vectors_of(folder, manifest.at("preprocessing_vectors"));
      used.push_back(vectors.tensors);
      for (const auto& one : vectors.images) used.push_back(one.image);
    }
    for (const auto& name : used)
      if (!digests_.count(name)) throw BundleError(this->path(name) + " has no SHA-256 in the manifest; bundle the model again");
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw BundleError(folder + "/" + manifest_name + " is damaged (" + error.what() + "); bundle the model again");
  }
}

void Bundle::verify(const std::string& keep) {
  std::string changed;
  kept_.clear();
  kept_name_ = keep;
  for (const auto& [name, digest] : digests_)
    if (hash_file(path(name), name == keep ? &kept_ : nullptr) != digest) changed += (changed.empty() ? "" : ", ") + name;
  if (!changed.empty()) throw BundleError(folder + " was changed after it was written: " + changed + "; copy it again");
}

Bytes Bundle::content(const std::string& name) {
  if (name == kept_name_) {
    kept_name_.clear();
    return std::move(kept_);
  }
  Bytes content;
  const auto digest = digests_.find(name);
  if (digest == digests_.end() || hash_file(path(name), &content) != digest->second)
    throw BundleError(folder + " was changed after it was written: " + name + "; copy it again");
  return content;
}

}  // namespace htr
