#include <algorithm>

#include "ctc.hpp"
#include "image.hpp"
#include "preprocess.hpp"
#include "selection.hpp"

namespace htr {
namespace {

constexpr const char* greedy_note =
    "decoder: greedy, since this reader has no beam search; the bundle was proven with its language model, which the Python "
    "reader uses";

Bundle open_bundle(const std::string& folder, const std::string& engine) {
  Bundle bundle(folder);
  bundle.verify(first_choice(bundle, engine));
  return bundle;
}

const std::vector<GreyImage>& only_page(const std::vector<GreyImage>& pages) {
  if (pages.size() != 1) throw ImageError("the image has " + std::to_string(pages.size()) + " pages; read them one by one");
  return pages;
}

void to_pixels(std::vector<Span>& spans, double pixels_per_frame, double width) {
  for (auto& span : spans) {
    span.start = std::min(span.start * pixels_per_frame, width);
    span.end = std::min(span.end * pixels_per_frame, width);
  }
}

}  // namespace

struct Recognizer::State {
  State(const std::string& folder, const Options& options)
      : bundle(open_bundle(folder, options.engine)),
        spec(bundle.preprocessing),
        selection(select(bundle, options.engine, options.threads)) {
    spec.alpha = options.alpha.value_or(spec.alpha);
    if (bundle.beam_search) note = greedy_note;
  }
  Bundle bundle;
  Preprocessing spec;
  Selection selection;
  std::string note;
};

Recognizer::Recognizer(const std::string& bundle, const Options& options)
    : state_(std::make_unique<State>(bundle, options)) {}
Recognizer::Recognizer(Recognizer&&) noexcept = default;
Recognizer& Recognizer::operator=(Recognizer&&) noexcept = default;
Recognizer::~Recognizer() = default;

const Preprocessing& Recognizer::preprocessing() const { return state_->spec; }
const std::string& Recognizer::selection() const { return state_->selection.text; }
const std::string& Recognizer::note() const { return state_->note; }

Reading Recognizer::read(const std::string& path) {
  return read(only_page(load_file(path, state_->spec.alpha))).at(0);
}

Reading Recognizer::read(const std::uint8_t* data, std::size_t size) {
  return read(only_page(load_pages(data, size, state_->spec.alpha, "the image"))).at(0);
}

std::vector<Reading> Recognizer::read(const std::vector<GreyImage>& lines) {
  if (lines.empty()) return {};
  const Preprocessing& spec = state_->spec;
  std::vector<std::vector<std::uint8_t>> tensors;
  for (const auto& line : lines) tensors.push_back(fit_line(line, spec));
  const Logits logits = infer_lines(*state_->selection.engine, batch_of(tensors, spec));
  auto readings = decode_greedy(logits, state_->bundle.characters);
  const double columns_per_frame = static_cast<double>(spec.width) / logits.frames;
  for (std::size_t index = 0; index < readings.size(); ++index) {
    const int width = lines[index].width;
    const double pixels_per_frame = columns_per_frame * width / scaled_width(lines[index], spec);
    to_pixels(readings[index].words, pixels_per_frame, width);
    to_pixels(readings[index].characters, pixels_per_frame, width);
  }
  return readings;
}

}  // namespace htr
