// JPEG by libjpeg-turbo with its default, exact settings, which are Pillow's.
#include <cstddef>
#include <cstdio>
// jpeglib.h needs both of the above
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstring>

#include "image.hpp"

namespace htr {
namespace {

class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr jpeg) {
      auto* self = static_cast<Reader*>(jpeg->client_data);
      jpeg->err->format_message(jpeg, self->message_);
      std::longjmp(self->jump_, 1);
    };
    errors_.output_message = [](j_common_ptr) {};
    jpeg_.client_data = this;
    jpeg_create_decompress(&jpeg_);
    jpeg_save_markers(&jpeg_, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(&jpeg_, const_cast<unsigned char*>(data), static_cast<unsigned long>(size));
    // libjpeg would go on with an image that is cut off.
    jpeg_.src->fill_input_buffer = [](j_decompress_ptr jpeg) -> boolean {
      ERREXIT(jpeg, JERR_INPUT_EOF);
      return FALSE;
    };
    jpeg_.src->skip_input_data = [](j_decompress_ptr jpeg, long bytes) {
      if (bytes <= 0) return;
      if (static_cast<std::size_t>(bytes) > jpeg->src->bytes_in_buffer) ERREXIT(jpeg, JERR_INPUT_EOF);
      jpeg->src->next_input_byte += bytes;
      jpeg->src->bytes_in_buffer -= static_cast<std::size_t>(bytes);
    };
  }
  ~Reader() { jpeg_destroy_decompress(&jpeg_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  GreyImage open() {
    if (!header()) throw Damaged{message_};
    if (jpeg_.num_components != 1 && jpeg_.num_components != 3 && jpeg_.num_components != 4)
      throw Damaged{"cannot handle " + std::to_string(jpeg_.num_components) + "-layer images"};
    check_size(jpeg_.image_width, jpeg_.image_height);
    const auto width = static_cast<std::size_t>(jpeg_.image_width);
    page_ = {static_cast<int>(width), static_cast<int>(jpeg_.image_height), {}};
    page_.pixels.resize(width * jpeg_.image_height);
    row_.resize(width * static_cast<std::size_t>(jpeg_.num_components));
    if (!pixels()) throw Damaged{message_};
    return upright(std::move(page_), orientation());
  }

 private:
  // No object with a destructor may be created between setjmp and longjmp.
  bool header() {
    if (setjmp(jump_)) return false;
    jpeg_read_header(&jpeg_, TRUE);
    const int parts = jpeg_.num_components;
    jpeg_.out_color_space = parts == 1 ? JCS_GRAYSCALE : parts == 3 ? JCS_RGB : JCS_CMYK;
    return true;
  }

  bool pixels() {
    if (setjmp(jump_)) return false;
    jpeg_start_decompress(&jpeg_);
    std::uint8_t* target = page_.pixels.data();
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = row_.data();
      jpeg_read_scanlines(&jpeg_, &row, 1);
      for (JDIMENSION x = 0; x < jpeg_.output_width; ++x) *target++ = grey(row + x * jpeg_.num_components);
    }
    return true;
  }

  std::uint8_t grey(const JSAMPLE* pixel) const {
    if (jpeg_.num_components == 1) return *pixel;
    if (jpeg_.num_components == 3) return luma(pixel[0], pixel[1], pixel[2]);
    // Inks are stored inverted, as Adobe does.
    return luma_of_cmyk(255U - pixel[0], 255U - pixel[1], 255U - pixel[2], 255U - pixel[3]);
  }

  int orientation() const {
    static const char xmp_name[] = "http://ns.adobe.com/xap/1.0/";
    std::vector<std::uint8_t> exif;
    std::string xmp;
    for (auto* marker = jpeg_.marker_list; marker; marker = marker->next) {
      const std::string content(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (content.compare(0, 6, std::string("Exif\0\0", 6)) == 0)
        exif.insert(exif.end(), content.begin() + (exif.empty() ? 0 : 6), content.end());
      else if (content.compare(0, sizeof xmp_name, std::string(xmp_name, sizeof xmp_name)) == 0)
        xmp = content.substr(sizeof xmp_name);
    }
    const int found = exif_orientation(exif.data(), exif.size());
    return found ? found : xmp_orientation(xmp);
  }

  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = {};
  GreyImage page_;
  std::vector<JSAMPLE> row_;
};

}  // namespace

Decoded decode_jpeg(const std::uint8_t* data, std::size_t size, Alpha) {
  Reader jpeg(data, size);
  Decoded pages;
  pages.push_back(jpeg.open());
  return pages;
}

}  // namespace htr
