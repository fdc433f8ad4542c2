#include "arguments.hpp"

#include <charconv>

#include "text.hpp"

const char* const usage_line = "Usage: htr-read [OPTIONS] BUNDLE [IMAGE|FOLDER|@LIST|-]...\n";

const char* const help_text = R"(
  Read line images with BUNDLE: one line of text each, in order.

  A FOLDER stands for its images by name, @LIST for the paths in a file
  (relative to the current folder, to the list's, or to "lines" beside it), and
  - for standard input: an image, or a list of paths. An image that cannot be
  read leaves its line empty and the exit code 1.

  Of the models in the bundle the fastest that fits this machine is used,
  unproven ones only where no proven one fits. Standard error says which and
  why.

Options:
  --json                      One JSON object a line, with confidences and
                              places.
  --engine TEXT               What runs the model: tensorrt, openvino, ...
                              [default: the fastest that fits]
  --threads INTEGER RANGE     CPU threads. [default: all physical cores]  [x>=1]
  --batch-size INTEGER RANGE  Lines per run.  [default: 1; x>=1]
  --alpha [white|ignore]      What shows through transparency.
  --self-test                 Run the golden lines on every engine that fits.
  --dump-tensor FILE          Write the lines as the network sees them, as a
                              .npy file of uint8 [N,H,W].
  --version                   Show the version and exit.
  -q, --quiet                 Print results and errors only.
  -v, --verbose               Say more: why an engine was chosen.
  -h, --help                  Show this message and exit.
)";

namespace {

int positive(const std::string& option, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string start = "Invalid value for '" + option + "': ";
  if (error != std::errc() || end != text.data() + text.size())
    throw UsageError(start + htr::quoted(text) + " is not a valid integer range.");
  if (value < 1) throw UsageError(start + text + " is not in the range x>=1.");
  return value;
}

bool set_flag(Arguments& arguments, const std::string& option) {
  if (option == "--json") arguments.json = true;
  else if (option == "--self-test") arguments.self_test = true;
  else if (option == "--version") arguments.version = true;
  else if (option == "--help" || option == "-h") arguments.help = true;
  else if (option == "--quiet" || option == "-q") arguments.verbosity = -1;
  else if (option == "--verbose" || option == "-v") arguments.verbosity = 1;
  else return false;
  return true;
}

void set_value(Arguments& arguments, const std::string& option, const std::string& value) {
  if (option == "--engine") arguments.options.engine = value;
  else if (option == "--threads") arguments.options.threads = positive(option, value);
  else if (option == "--batch-size") arguments.batch_size = positive(option, value);
  else if (option == "--dump-tensor") arguments.dump_tensor = value;
  else if (value == "white" || value == "ignore")
    arguments.options.alpha = value == "white" ? htr::Alpha::white : htr::Alpha::ignore;
  else throw UsageError("Invalid value for '--alpha': " + htr::quoted(value) + " is not one of 'white', 'ignore'.");
}

bool takes_value(const std::string& option) {
  for (const char* known : {"--engine", "--threads", "--batch-size", "--dump-tensor", "--alpha"})
    if (option == known) return true;
  return false;
}

}  // namespace

Arguments parse_arguments(int count, char** values) {
  Arguments arguments;
  std::vector<std::string> plain;
  bool options = true;
  for (int index = 1; index < count; ++index) {
    const std::string word = values[index];
    const auto equals = word.find('=');
    const std::string option = word.substr(0, equals);
    if (!options || word.size() < 2 || word[0] != '-') plain.push_back(word);
    else if (word == "--") options = false;
    else if (takes_value(option)) {
      if (equals == std::string::npos && ++index == count)
        throw UsageError("Option '" + option + "' requires an argument.");
      set_value(arguments, option, equals == std::string::npos ? values[index] : word.substr(equals + 1));
    } else if (!set_flag(arguments, word)) throw UsageError("No such option '" + option + "'.");
  }
  if (arguments.help || arguments.version) return arguments;
  if (plain.empty()) throw UsageError("Missing argument 'BUNDLE'.");
  arguments.bundle = plain[0];
  arguments.images.assign(plain.begin() + 1, plain.end());
  if (!arguments.self_test && arguments.images.empty())
    throw UsageError("give at least one image, folder, @LIST or -");
  return arguments;
}
