package demo

import (
	"fmt"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

// quietZone is the margin of a QR code, in modules (ISO/IEC 18004 wants 4).
const quietZone = 4

// terminalQR draws a QR code with half-block characters, two rows of modules a
// line: black on white, whatever the terminal's own colours are.
func terminalQR(text string) (string, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", fmt.Errorf("draw a QR code: %w", err)
	}
	n := code.Bounds().Dx()
	var b strings.Builder
	for y := -quietZone; y < n+quietZone; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quietZone; x < n+quietZone; x++ {
			upper, lower := dark(code, x, y), dark(code, x, y+1)
			switch {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

func dark(code barcode.Barcode, x, y int) bool {
	n := code.Bounds().Dx()
	if x < 0 || y < 0 || x >= n || y >= n {
		return false
	}
	r, _, _, _ := code.At(x, y).RGBA()
	return r == 0
}
