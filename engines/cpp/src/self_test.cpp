#include "self_test.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "ctc.hpp"
#include "preprocess.hpp"
#include "text.hpp"

namespace htr {
namespace {

// The largest difference of a logit that passes; htr_engines.self_test says why.
double tolerance_of(const std::string& precision, const std::string& device) {
  if (precision == "int8" || precision == "mixed") return 2.0;
  return precision == "fp32" && device == "cpu" ? 1e-2 : 0.5;
}

std::vector<std::uint8_t> tensor_of(Bundle& bundle, const std::string& image, const Preprocessing& spec) {
  const Bytes content = bundle.content(image);
  return fit_line(load_pages(content.data(), content.size(), spec.alpha, bundle.path(image)).at(0), spec);
}

Array array_of(Bundle& bundle, const std::string& name, char kind) {
  Array array = read_npy(bundle.content(name), bundle.path(name));
  if (array.kind != kind) throw BundleError(bundle.path(name) + " holds another type of numbers; bundle the model again");
  return array;
}

std::string formatted(const char* format, double first, double second) {
  char text[96];
  std::snprintf(text, sizeof text, format, first, second);
  return text;
}

double difference_of(const Logits& logits, const Array& expected) {
  const std::vector<std::size_t> shape{static_cast<std::size_t>(logits.frames), static_cast<std::size_t>(logits.classes)};
  if (expected.shape != shape) return std::numeric_limits<double>::infinity();
  float largest = 0;
  for (std::size_t index = 0; index < logits.values.size(); ++index)
    largest = std::max(largest, std::abs(logits.values[index] - expected.floats()[index]));
  return largest;
}

}  // namespace

std::vector<Check> check_preprocessing(Bundle& bundle) {
  std::vector<Check> checks;
  const auto& vectors = bundle.vectors;
  if (vectors.images.empty()) return checks;
  const Array expected = array_of(bundle, vectors.tensors, 'u');
  const auto size = static_cast<std::size_t>(vectors.spec.width) * vectors.spec.height;
  if (expected.data.size() != size * vectors.images.size())
    throw BundleError(bundle.path(vectors.tensors) + " does not hold a tensor for each image; bundle the model again");
  std::size_t passed = 0;
  for (std::size_t index = 0; index < vectors.images.size(); ++index) {
    const auto& vector = vectors.images[index];
    const auto tensor = tensor_of(bundle, vector.image, {vectors.spec.width, vectors.spec.height, vector.alpha});
    int difference = 0;
    for (std::size_t pixel = 0; pixel < size; ++pixel)
      difference = std::max(difference, std::abs(tensor[pixel] - expected.data[size * index + pixel]));
    passed += difference <= vector.tolerance;
    if (difference > vector.tolerance)
      checks.push_back({false, file_name(vector.image) + ", alpha " + (vector.alpha == Alpha::white ? "white" : "ignore") +
                                   ": preprocessing is off by " + std::to_string(difference) + " grey levels"});
  }
  checks.push_back({passed == vectors.images.size(), "preprocessing: " + std::to_string(passed) + " of " +
                                                         std::to_string(vectors.images.size()) + " images match"});
  return checks;
}

std::vector<Check> self_test(Bundle& bundle, const BundledModel& model, Engine& engine) {
  if (bundle.golden.empty()) throw BundleError(bundle.folder + " has no golden lines; bundle the model again");
  std::vector<Check> checks;
  const double tolerance = tolerance_of(model.precision, engine.device);
  for (const auto& line : bundle.golden) {
    const Expected& expected = line.expected(model.file);
    const std::string name = file_name(line.image);
    const Batch batch = batch_of({tensor_of(bundle, line.image, bundle.preprocessing)}, bundle.preprocessing);
    const Array tensor = array_of(bundle, line.tensor, 'f');
    const bool same = tensor.data.size() == 4 * batch.values.size() &&
                      std::equal(batch.values.begin(), batch.values.end(), tensor.floats());
    checks.push_back({same, name + ": preprocessing " + (same ? "matches to the last bit" : "differs")});
    const Logits logits = infer_lines(engine, batch);
    const double difference = difference_of(logits, array_of(bundle, expected.logits, 'f'));
    checks.push_back({difference <= tolerance,
                      name + ": logits, " + formatted("max diff %.1e (atol %g)", difference, tolerance)});
    const std::string text = decode_greedy(logits, bundle.characters).at(0).text;
    const bool equal = text == expected.text;
    checks.push_back({equal, name + ": reads " + quoted(text) + (equal ? "" : ", not " + quoted(expected.text))});
  }
  return checks;
}

}  // namespace htr
