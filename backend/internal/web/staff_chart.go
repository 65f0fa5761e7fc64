package web

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"

	"batteryswap/backend/internal/statistics"
)

// chart is a picture that stands above the table with its numbers.
type chart struct{ SVG template.HTML }

// Sizes of a chart, in pixels. What goes across is in percent of its width, which is the
// page's: a phone shows all of it, with letters as large as elsewhere.
const (
	plotHeight = 240
	plotLeft   = 12 // %
	plotTop    = 16
	widestBar  = 8 // %
	lineHeight = 28
	maxLines   = 30
	maxDayBars = 124 // more are drawn by month
	maxLabels  = 5   // that have room below the columns
	cellHeight = 30
	cellsLeft  = 14 // %
	barsLeft   = 42 // %
	longestBar = 42 // %
)

// Colours, told apart also without colour by what stands beside them.
const (
	barColour  = "#00398c"
	gridColour = "#c7ccd4"
	inkColour  = "#111"
)

// chartOf draws a figure as its dimension wants it.
func (t texts) chartOf(f statistics.Figure, rows []figureRow) chart {
	switch f.By {
	case statistics.ByDay:
		return t.columns(f)
	case statistics.ByHour:
		return t.heat(f)
	case statistics.Total:
		return chart{}
	default:
		return t.bars(f, rows)
	}
}

// drawing collects the parts of a picture. x and w are in percent, y and h in pixels.
type drawing struct{ strings.Builder }

func (d *drawing) rect(x, y, w, h float64, colour, title string) {
	fmt.Fprintf(d, `<rect x="%.2f%%" y="%.1f" width="%.2f%%" height="%.1f" fill="%s">`, x, y, w, h, colour)
	if title != "" {
		fmt.Fprintf(d, `<title>%s</title>`, template.HTMLEscapeString(title))
	}
	d.WriteString(`</rect>`)
}

func (d *drawing) text(x, y float64, anchor, s string) {
	fmt.Fprintf(d, `<text x="%.2f%%" y="%.1f" text-anchor="%s" fill="%s" font-size="14">%s</text>`, x, y, anchor, inkColour, template.HTMLEscapeString(s))
}

// number stands in a cell, where the page is wide enough for it.
func (d *drawing) number(x, y float64, colour string, n int) {
	fmt.Fprintf(d, `<text class="cell" x="%.2f%%" y="%.1f" text-anchor="middle" fill="%s" font-size="14">%d</text>`, x, y, colour, n)
}

// clipped is a text that has so much room and no more.
func (d *drawing) clipped(x, y, w float64, s string) {
	fmt.Fprintf(d, `<svg x="%.2f%%" y="%.1f" width="%.2f%%" height="%d">`, x, y, w, lineHeight)
	d.text(0, 19, "start", s)
	d.WriteString(`</svg>`)
}

// done is the picture, with what it shows for who cannot see it. All that came from
// outside was escaped when it was drawn.
func (d *drawing) done(height int, label string) chart {
	const frame = 2 * (8 + 1) // padding and border, as the style has them
	svg := fmt.Sprintf(`<svg class="chart" width="100%%" height="%d" role="img" aria-label="%s">%s</svg>`, height+frame, template.HTMLEscapeString(label), d.String())
	return chart{template.HTML(svg)}
}

// bar is one of a chart's columns.
type bar struct {
	label string
	n     int
}

// columns shows days in their order, or months where days are too many.
func (t texts) columns(f statistics.Figure) chart {
	var all []bar
	label := t.text("chart.day")
	for _, g := range f.Groups {
		if len(f.Groups) <= maxDayBars {
			all = append(all, bar{g.Key, g.Swaps})
			continue
		}
		month := g.Key[:len("2006-01")]
		if len(all) == 0 || all[len(all)-1].label != month {
			all = append(all, bar{month, 0})
		}
		all[len(all)-1].n += g.Swaps
		label = t.text("chart.month")
	}
	top := 1
	for _, b := range all {
		top = max(top, b.n)
	}
	step := niceStep(top)
	top = (top + step - 1) / step * step
	var d drawing
	base := float64(plotTop + plotHeight)
	for v := 0; v <= top; v += step {
		y := base - float64(v)*plotHeight/float64(top)
		d.rect(plotLeft, y, 100-plotLeft, 1, gridColour, "")
		d.text(plotLeft-1, y+5, "end", grouped(v))
	}
	width := float64(100-plotLeft) / float64(max(1, len(all)))
	wide := min(width*0.8, widestBar)
	for i, b := range all {
		x, h := plotLeft+float64(i)*width, float64(b.n)*plotHeight/float64(top)
		if b.n > 0 {
			d.rect(x+(width-wide)/2, base-h, wide, h, barColour, b.label+": "+grouped(b.n))
		}
		d.dayBelow(i, len(all), base+20, width, shortDate(b.label, len(all)))
	}
	return d.done(plotTop+plotHeight+32, label+" "+f.From.String()+"–"+f.To.String())
}

// dayBelow writes the label of column i of n, where there is room for it: the first's
// and the last's always.
func (d *drawing) dayBelow(i, n int, y, width float64, label string) {
	every := (n + maxLabels - 1) / maxLabels
	x := plotLeft + float64(i)*width
	switch {
	case n > 2*maxLabels && i == n-1:
		d.text(x+width, y, "end", label)
	case i == 0, i == n-1, i%every == 0 && i+every < n:
		d.text(x+width/2, y, "middle", label)
	}
}

// shortDate leaves the year away where there is room for little.
func shortDate(label string, n int) string {
	if n > 4 && len(label) == len("2006-01-02") {
		return label[len("2006-"):]
	}
	return label
}

// niceStep is a round distance of grid lines: about four of them.
func niceStep(top int) int {
	for unit := 1; ; unit *= 10 {
		for _, k := range []int{1, 2, 5} {
			if top <= 4*k*unit {
				return k * unit
			}
		}
	}
}

// heat shows the hours of the weekdays: the darker the more, with the number in
// each.
func (t texts) heat(f statistics.Figure) chart {
	n, top := map[string]int{}, 1
	for _, g := range f.Groups {
		n[g.Key] = g.Swaps
		top = max(top, g.Swaps)
	}
	var d drawing
	const width = (100 - cellsLeft) / 24.
	for hour := range 24 {
		if hour%2 == 0 {
			d.text(cellsLeft+(float64(hour)+0.5)*width, 16, "middle", strconv.Itoa(hour))
		}
	}
	for day := 1; day <= 7; day++ {
		y := float64(24 + (day-1)*cellHeight)
		d.text(cellsLeft-1, y+20, "end", t.text("weekday."+strconv.Itoa(day)))
		for hour := range 24 {
			k := n[fmt.Sprintf("%d/%02d", day, hour)]
			shade := 5 * k / top // 0 to 5
			if k > 0 {
				shade = max(1, shade)
			}
			x := cellsLeft + float64(hour)*width
			d.rect(x, y+1, width*0.93, cellHeight-2, heatColours[shade], fmt.Sprintf("%s %02d:00: %s", t.text("weekday."+strconv.Itoa(day)), hour, grouped(k)))
			if k > 0 && k < 10000 {
				d.number(x+width*0.465, y+20, map[bool]string{true: "#fff", false: inkColour}[shade >= 3], k)
			}
		}
	}
	return d.done(24+7*cellHeight+4, t.text("chart.hour"))
}

// heatColours go from none to most; the numbers on them have a contrast of 7:1.
var heatColours = [...]string{"#eceff3", "#dbe6fa", "#b7cdf3", "#2f5da8", "#123f87", "#00285f"}

// bars shows groups one below the other, those that are hidden left out.
func (t texts) bars(f statistics.Figure, rows []figureRow) chart {
	var all []figureRow
	top := 1
	for _, r := range rows {
		if !r.Group.Hidden && len(all) < maxLines {
			all = append(all, r)
			top = max(top, r.Swaps)
		}
	}
	if len(all) == 0 {
		return chart{}
	}
	var d drawing
	for i, r := range all {
		y, indent := float64(i*lineHeight), 1.5*float64(max(0, r.Depth))
		d.clipped(indent, y, barsLeft-1-indent, r.Label)
		w := float64(r.Swaps) * longestBar / float64(top)
		d.rect(barsLeft, y+4, max(0.2, w), lineHeight-8, barColour, r.Label+": "+grouped(r.Swaps))
		d.text(barsLeft+w+1, y+19, "start", grouped(r.Swaps))
	}
	return d.done(len(all)*lineHeight+4, t.text("chart."+string(f.By)))
}
