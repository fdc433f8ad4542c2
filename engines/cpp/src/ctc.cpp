#include "ctc.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text.hpp"

namespace htr {
namespace {

constexpr double never = -std::numeric_limits<double>::infinity();

struct Frame {
  int best;  // class
  double log_p;  // of it
};

Frame frame_of(const float* logits_C, int classes) {
  if (!std::all_of(logits_C, logits_C + classes, [](float value) { return std::isfinite(value); })) return {0, never};
  const float* peak = std::max_element(logits_C, logits_C + classes);
  double sum = 0.0;
  for (int index = 0; index < classes; ++index) sum += std::exp(static_cast<double>(logits_C[index]) - *peak);
  return {static_cast<int>(peak - logits_C), -std::log(sum)};
}

double geometric_mean(const std::vector<double>& log_p) {
  double sum = 0.0;
  for (double one : log_p) sum += one;
  return std::exp(sum / static_cast<double>(log_p.size()));
}

std::vector<Span> words_of(const std::vector<Span>& characters) {
  std::vector<Span> words;
  std::vector<double> log_p;
  bool open = false;
  for (const auto& span : characters) {
    if (is_space(span.text)) {
      if (open) words.back().confidence = geometric_mean(log_p);
      open = false;
      continue;
    }
    if (!open) {
      words.push_back({"", 0.0, span.start, span.end});
      log_p.clear();
    }
    open = true;
    words.back().text += span.text;
    words.back().end = span.end;
    log_p.push_back(std::log(std::max(span.confidence, 1e-45)));
  }
  if (open) words.back().confidence = geometric_mean(log_p);
  return words;
}

Reading decode_line(const std::vector<Frame>& frames, const std::vector<std::string>& characters) {
  Reading reading;
  if (frames.empty()) return reading;
  std::vector<double> kept, all;
  for (std::size_t start = 0, end = 0; start < frames.size(); start = end) {
    double log_p = never;
    for (end = start; end < frames.size() && frames[end].best == frames[start].best; ++end) {
      log_p = std::max(log_p, frames[end].log_p);
      all.push_back(frames[end].log_p);
    }
    if (frames[start].best == 0) continue;
    kept.push_back(log_p);
    const auto& text = characters[static_cast<std::size_t>(frames[start].best) - 1];
    reading.characters.push_back({text, std::exp(log_p), static_cast<double>(start), static_cast<double>(end)});
    reading.text += text;
  }
  reading.confidence = geometric_mean(kept.empty() ? all : kept);
  reading.words = words_of(reading.characters);
  return reading;
}

}  // namespace

std::vector<Reading> decode_greedy(const Logits& logits_NTC, const std::vector<std::string>& characters) {
  const auto classes = static_cast<std::size_t>(logits_NTC.classes);
  if (classes != characters.size() + 1)
    throw EngineError("the model has " + std::to_string(classes) + " classes and the bundle " +
                      std::to_string(characters.size()) + " characters; bundle the model again");
  std::vector<Reading> readings;
  const float* logits_C = logits_NTC.values.data();
  for (int line = 0; line < logits_NTC.lines; ++line) {
    std::vector<Frame> frames;
    for (int frame = 0; frame < logits_NTC.frames; ++frame, logits_C += classes)
      frames.push_back(frame_of(logits_C, logits_NTC.classes));
    readings.push_back(decode_line(frames, characters));
  }
  return readings;
}

}  // namespace htr
