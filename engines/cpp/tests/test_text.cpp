#include <doctest/doctest.h>

#include <random>

#include "text.hpp"

TEST_CASE("text is written as Python writes it") {
  CHECK(htr::quoted("it's") == "\"it's\"");
  CHECK(htr::quoted("it's \"x\"\n\\") == R"('it\'s "x"\n\\')");
  CHECK(htr::quoted("a\xc2\xa0ü\x01") == "'a\\xa0ü\\x01'");
  CHECK(htr::json_string("a\"\\\x1f\tü\xff") == R"("a\"\\\u001f\tü\udcff")");
  CHECK(htr::json_number(0.98765, 4) == "0.9877");
  CHECK(htr::json_number(1, 4) == "1.0");
  CHECK(htr::json_number(0.25, 1) == "0.2");
  CHECK(htr::json_number(160, 1) == "160.0");
  CHECK(htr::split_lines("a\r\nb\n\nc\xe2\x80\xa8" "d\n") == std::vector<std::string>{"a", "b", "", "c", "d"});
  CHECK(htr::strip("  a b\xe3\x80\x80\n") == "a b");
}

TEST_CASE("any bytes can be written") {
  std::mt19937 random(1);
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (unsigned length = random() % 12; length; --length) text += static_cast<char>(random());
    CHECK(htr::is_utf8(htr::printable(text)));
    CHECK(htr::is_utf8(htr::json_string(text)));
    std::string joined;
    for (const auto& character : htr::split_utf8(text)) joined += character;
    CHECK(joined == text);
    htr::quoted(text);
    htr::strip(text);
    htr::split_lines(text);
  }
}
