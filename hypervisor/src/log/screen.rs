//! Text on the firmware's frame buffer, for refusals and panics.

use core::fmt;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const HEIGHT: usize = RasterHeight::Size16.val();
const WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);

/// Order of the colours in a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
    /// One byte of grey.
    Grey,
}

/// A frame buffer with a text cursor.
#[derive(Debug)]
pub struct Screen {
    pixels: &'static mut [u8],
    width: usize,
    height: usize,
    /// Pixels from the start of a line to the start of the next.
    stride: usize,
    bytes_per_pixel: usize,
    order: PixelOrder,
    column: usize,
    row: usize,
}

impl Screen {
    /// A screen over `pixels`. Sizes that do not fit the bytes only make text invisible.
    pub const fn new(
        pixels: &'static mut [u8],
        (width, height, stride): (usize, usize, usize),
        bytes_per_pixel: usize,
        order: PixelOrder,
    ) -> Self {
        Self {
            pixels,
            width,
            height,
            stride,
            bytes_per_pixel,
            order,
            column: 0,
            row: 0,
        }
    }

    /// All black, cursor at the top.
    pub fn clear(&mut self) {
        self.pixels.fill(0);
        (self.column, self.row) = (0, 0);
    }

    fn put(&mut self, c: char) {
        if c == '\n' {
            self.new_line();
            return;
        }
        if (self.column + 1) * WIDTH > self.width {
            self.new_line();
        }
        let font = |c| get_raster(c, FontWeight::Regular, RasterHeight::Size16);
        if let Some(raster) = font(c).or_else(|| font('?')) {
            let (x, y) = (self.column * WIDTH, self.row * HEIGHT);
            for (dy, line) in raster.rows().enumerate() {
                for (dx, &intensity) in line.iter().enumerate() {
                    self.pixel(x + dx, y + dy, intensity);
                }
            }
        }
        self.column += 1;
    }

    fn pixel(&mut self, x: usize, y: usize, intensity: u8) {
        let start = (y * self.stride + x) * self.bytes_per_pixel;
        let Some(pixel) = self.pixels.get_mut(start..start + self.bytes_per_pixel) else {
            return;
        };
        // Amber: legible, and unlike a console.
        let (red, green, blue) = (intensity, intensity / 4 * 3, 0);
        let colours = match self.order {
            PixelOrder::Rgb => [red, green, blue],
            PixelOrder::Bgr => [blue, green, red],
            PixelOrder::Grey => [intensity; 3],
        };
        for (byte, colour) in pixel.iter_mut().zip(colours) {
            *byte = colour;
        }
    }

    fn new_line(&mut self) {
        self.column = 0;
        self.row += 1;
        if (self.row + 1) * HEIGHT > self.height {
            let line = HEIGHT * self.stride * self.bytes_per_pixel;
            let used = self.row * line;
            if used <= self.pixels.len() {
                self.pixels.copy_within(line..used, 0);
                self.row -= 1;
                let last = self.row * line;
                if let Some(bytes) = self.pixels.get_mut(last..used) {
                    bytes.fill(0);
                }
            } else {
                self.row = 0;
            }
        }
    }
}

impl fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|c| self.put(c));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    fn screen(width: usize, height: usize) -> Screen {
        let stride = width + 5;
        let pixels = vec![0; stride * height * 4].leak();
        Screen::new(pixels, (width, height, stride), 4, PixelOrder::Bgr)
    }

    fn lit_rows(screen: &Screen) -> Vec<bool> {
        let row = HEIGHT * screen.stride * 4;
        screen
            .pixels
            .chunks(row)
            .map(|bytes| bytes.iter().any(|&b| b != 0))
            .collect()
    }

    #[test]
    fn text_wraps_at_the_right_edge_and_scrolls_at_the_bottom() {
        let mut s = screen(WIDTH * 4, HEIGHT * 3);
        s.write_str("abcdef").unwrap();
        assert_eq!(lit_rows(&s), [true, true, false]);
        s.write_str("\n\n\n").unwrap();
        assert_eq!(
            lit_rows(&s),
            [false, false, false],
            "both lines scrolled out"
        );
        s.write_str("x").unwrap();
        assert_eq!(lit_rows(&s), [false, false, true]);
        s.clear();
        assert_eq!(lit_rows(&s), [false; 3]);
    }

    #[test]
    fn a_buffer_smaller_than_it_claims_is_not_overrun() {
        let mut s = screen(WIDTH * 4, HEIGHT * 2);
        s.height = 10_000;
        for _ in 0..2000 {
            s.write_str("text\n").unwrap();
        }
    }
}
