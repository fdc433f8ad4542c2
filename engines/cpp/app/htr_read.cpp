// htr-read: line images in, text out.
#include <cstdio>
#include <iostream>

#include "arguments.hpp"
#include "image.hpp"
#include "self_test.hpp"
#include "sources.hpp"
#include "text.hpp"

namespace {

constexpr int failed_code = 1, usage_code = 2, parity_code = 3;

void say(const std::string& text) {
  std::cout.flush();
  std::cerr << htr::printable(text) << '\n';
}

struct Page {  // of an image, or the error that cost it
  std::string name;
  int number;
  htr::GreyImage image;
  std::string error;
};

class Reader {
 public:
  explicit Reader(const Arguments& arguments)
      : arguments_(arguments), recognizer_(normal_path(arguments.bundle), arguments.options) {
    const std::string& selection = recognizer_.selection();
    if (arguments.verbosity >= 0) say(arguments.verbosity ? selection : selection.substr(0, selection.find("; rejected: ")));
    if (arguments.verbosity >= 0 && !recognizer_.note().empty()) say(recognizer_.note());
  }

  int read(const std::vector<Source>& sources) {
    for (const auto& source : sources) {
      load(source);
      while (images_ >= arguments_.batch_size) flush(arguments_.batch_size);
    }
    flush(images_);
    if (!arguments_.dump_tensor.empty()) {
      const auto& spec = recognizer_.preprocessing();
      const auto height = static_cast<std::size_t>(spec.height), width = static_cast<std::size_t>(spec.width);
      htr::write_npy(arguments_.dump_tensor, {tensors_.size() / height / width, height, width}, tensors_);
    }
    if (failed_) say(std::to_string(failed_) + " of " + std::to_string(lines_) + " failed");
    return failed_ ? failed_code : 0;
  }

 private:
  void load(const Source& source) {
    try {
      const auto alpha = recognizer_.preprocessing().alpha;
      auto pages = source.from_input
                       ? htr::load_pages(source.content.data(), source.content.size(), alpha, "standard input")
                       : htr::load_file(source.path, alpha);
      int number = 0;
      for (auto& page : pages) waiting_.push_back({source.name, number++, std::move(page), ""});
      images_ += number;
    } catch (const htr::ImageError& error) {
      waiting_.push_back({source.name, 0, htr::GreyImage(), error.what()});
    }
  }

  // Reads the first entries that hold a number of images, with the errors among them; all entries for the last.
  void flush(int images) {
    std::vector<htr::GreyImage> batch;
    std::size_t taken = 0;
    for (; taken < waiting_.size() && (static_cast<int>(batch.size()) < images || images_ == 0 || images == 0); ++taken)
      if (waiting_[taken].error.empty()) batch.push_back(waiting_[taken].image);
    if (!arguments_.dump_tensor.empty())
      for (const auto& image : batch) {
        const auto tensor = htr::fit_line(image, recognizer_.preprocessing());
        tensors_.insert(tensors_.end(), tensor.begin(), tensor.end());
      }
    const auto readings = recognizer_.read(batch);
    auto reading = readings.begin();
    for (std::size_t index = 0; index < taken; ++index)
      print(waiting_[index], waiting_[index].error.empty() ? &*reading++ : nullptr);
    std::cout.flush();
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(taken));
    images_ -= static_cast<int>(batch.size());
  }

  void print(const Page& page, const htr::Reading* reading) {
    ++lines_;
    if (!reading) {
      ++failed_;
      say("Error: " + page.error);
    } else if (const std::string doubt = htr::doubt(page.image); !doubt.empty()) {
      say("Warning: " + page.name + ": " + doubt);
    }
    if (!arguments_.json) {
      std::cout << htr::printable(reading ? reading->text : "") << '\n';
      return;
    }
    std::cout << "{\"file\": " << htr::json_string(page.name) << ", \"page\": " << page.number << ", "
              << (reading ? htr::json_fields(*reading) : "\"error\": " + htr::json_string(page.error)) << "}\n";
  }

  const Arguments& arguments_;
  htr::Recognizer recognizer_;
  std::vector<Page> waiting_;
  int images_ = 0;  // among those
  int failed_ = 0, lines_ = 0;
  htr::Bytes tensors_;
};

bool print_checks(const std::vector<htr::Check>& checks) {
  bool passed = true;
  for (const auto& check : checks) {
    std::cout << "-[" << (check.passed ? "✓" : "✗") << "] " << htr::printable(check.detail) << '\n';
    passed = passed && check.passed;
  }
  return passed;
}

// Runs the golden lines on every engine that opens, or on the one asked for.
int test(const Arguments& arguments) {
  htr::Bundle bundle(normal_path(arguments.bundle));
  const auto& options = arguments.options;
  bundle.verify(htr::first_choice(bundle, options.engine));
  bool passed = print_checks(htr::check_preprocessing(bundle)), opened = false;
  for (const auto& candidate : htr::candidates(bundle, options.engine)) {
    std::unique_ptr<htr::Engine> engine;
    try {
      engine = htr::open_candidate(bundle, candidate, options.threads);
    } catch (const htr::BundleError&) {
      throw;
    } catch (const htr::Error& error) {
      say("left out: " + candidate.name() + " (" + htr::brief(bundle, candidate, error) + ")");
      continue;
    }
    opened = true;
    const bool fine = print_checks(htr::self_test(bundle, *candidate.model, *engine));
    passed = passed && fine;
    std::cout << candidate.name() << (fine ? " reads as expected\n" : " does not read as expected\n");
  }
  if (!opened) htr::select(bundle, options.engine, options.threads);  // says why nothing fits
  return passed ? 0 : parity_code;
}

int run(const Arguments& arguments) {
  if (arguments.help) std::cout << usage_line << help_text;
  else if (arguments.version) std::cout << "htr-read, version " HTR_VERSION "\n";
  else if (arguments.self_test) return test(arguments);
  else {
    const auto sources = find_sources(arguments.images);
    return Reader(arguments).read(sources);
  }
  return 0;
}

}  // namespace

int main(int count, char** values) {
  std::ios::sync_with_stdio(false);
  try {
    return run(parse_arguments(count, values));
  } catch (const UsageError& error) {
    std::cerr << usage_line << "Try 'htr-read --help' for help.\n\n";
    say(std::string("Error: ") + error.what());
    return usage_code;
  } catch (const std::bad_alloc&) {
    say("Error: the memory ran out; give a smaller batch or free some memory");
  } catch (const std::exception& error) {
    say(std::string("Error: ") + error.what());
  }
  return failed_code;
}
