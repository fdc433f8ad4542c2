// Files, and arrays in numpy's .npy format.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>

#include "bundle.hpp"

namespace htr {
namespace {

constexpr std::int64_t max_file_bytes = std::int64_t{2} << 30;

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

std::string header_field(const std::string& header, const std::string& key) {
  const auto at = header.find("'" + key + "':");
  return at == std::string::npos ? "" : header.substr(header.find_first_not_of(' ', at + key.size() + 3));
}

}  // namespace

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool read_pieces(const std::string& path, const std::function<void(const std::uint8_t*, std::size_t)>& piece) {
  // A pipe without a writer would block otherwise.
  const int handle = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (handle < 0) return false;
  const File file(fdopen(handle, "rb"), std::fclose);
  struct stat status {};
  if (!file || fstat(handle, &status) || !S_ISREG(status.st_mode) || status.st_size > max_file_bytes) {
    errno = S_ISDIR(status.st_mode) ? EISDIR : S_ISREG(status.st_mode) ? EFBIG : ESPIPE;
    return false;
  }
  std::setvbuf(file.get(), nullptr, _IONBF, 0);
  std::vector<std::uint8_t> buffer(1 << 18);
  for (;;) {
    const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (size) piece(buffer.data(), size);
    if (size < buffer.size()) return !std::ferror(file.get());
  }
}

Bytes read_file(const std::string& path) {
  Bytes content;
  const auto append = [&](const std::uint8_t* data, std::size_t size) { content.insert(content.end(), data, data + size); };
  if (!read_pieces(path, append)) throw std::system_error(errno, std::generic_category());
  return content;
}

Array read_npy(const Bytes& content, const std::string& path) {
  const BundleError damaged(path + " is damaged (not a .npy array of float32 or uint8); copy the bundle again");
  if (content.size() < 12 || std::memcmp(content.data(), "\x93NUMPY", 6)) throw damaged;
  const bool short_header = content[6] == 1;
  const std::size_t start = short_header ? 10 : 12;
  std::size_t size = content[8] | content[9] << 8;
  if (!short_header) size |= static_cast<std::size_t>(content[10]) << 16 | static_cast<std::size_t>(content[11]) << 24;
  if (size > content.size() - start) throw damaged;
  const std::string header(content.begin() + static_cast<std::ptrdiff_t>(start),
                           content.begin() + static_cast<std::ptrdiff_t>(start + size));
  Array array;
  const std::string type = header_field(header, "descr").substr(0, 5);
  array.kind = type == "'<f4'" ? 'f' : type == "'|u1'" ? 'u' : 0;
  if (!array.kind || header_field(header, "fortran_order").compare(0, 5, "False")) throw damaged;
  std::size_t count = array.kind == 'f' ? 4 : 1;
  const std::string shape = header_field(header, "shape");
  for (std::size_t at = 1; at < shape.size() && shape[at] != ')'; ++at) {
    if (shape[at] < '0' || shape[at] > '9') continue;
    array.shape.push_back(std::strtoul(&shape[at], nullptr, 10));
    if (array.shape.back() > content.size()) throw damaged;
    count *= array.shape.back();
    at = shape.find_first_not_of("0123456789", at) - 1;
  }
  if (array.shape.size() > 4 || count != content.size() - start - size) throw damaged;
  array.data.assign(content.end() - static_cast<std::ptrdiff_t>(count), content.end());
  return array;
}

void write_npy(const std::string& path, const std::vector<std::size_t>& shape, const Bytes& data) {
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (";
  for (std::size_t axis : shape) header += std::to_string(axis) + ", ";
  header += "), }";
  header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');
  header += '\n';
  const std::string temporary = path + ".partial";
  File file(std::fopen(temporary.c_str(), "wb"), std::fclose);
  const char size[2] = {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  const bool written = file && std::fwrite("\x93NUMPY\1\0", 1, 8, file.get()) == 8 &&
                       std::fwrite(size, 1, 2, file.get()) == 2 &&
                       std::fwrite(header.data(), 1, header.size(), file.get()) == header.size() &&
                       std::fwrite(data.data(), 1, data.size(), file.get()) == data.size();
  if (!written || std::fclose(file.release()) || std::rename(temporary.c_str(), path.c_str()))
    throw Error(path + " cannot be written (" + std::strerror(errno) + "); check the folder and the disk");
}

}  // namespace htr
