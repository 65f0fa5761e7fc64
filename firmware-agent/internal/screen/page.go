package screen

import (
	"fmt"
	"html"
	"strings"

	"github.com/boombuler/barcode/qr"

	"batteryswap/protocol"
)

// page is HTML that is being written.
type page struct{ strings.Builder }

// add writes HTML with each {} replaced by an argument, escaped.
func (p *page) add(text string, args ...any) {
	for _, a := range args {
		before, after, _ := strings.Cut(text, "{}")
		p.WriteString(before)
		p.WriteString(html.EscapeString(fmt.Sprint(a)))
		text = after
	}
	p.WriteString(text)
}

// both writes a text in both languages, one below the other.
func (s *Screen) both(p *page, tag, class, key string) {
	p.add(`<{} class="{}">`, tag, class)
	for _, lang := range languages {
		p.add(`<span lang="{}">{}</span>`, lang, s.texts[lang][key])
	}
	p.add(`</{}>`, tag)
}

// whole writes the page: what changes, and what it shows when the agent is gone.
func (s *Screen) whole(p *page) {
	p.add(`<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{}</title><style>`, s.o.CabinetID)
	p.Write(s.style)
	p.WriteString(`</style><noscript><meta http-equiv="refresh" content="1"></noscript></head><body><div id="live">`)
	s.live(p)
	p.WriteString(`</div><div id="down" hidden><main class="out_of_service"><p class="icon">⚠</p>`)
	s.both(p, "h1", "say", "down")
	p.WriteString(`</main></div><script>`)
	p.Write(s.script)
	p.WriteString(`</script></body></html>`)
}

// live writes what changes.
func (s *Screen) live(p *page) {
	sc, g := s.o.Scene(), s.guides.look()
	what := sc.shows(s.o.Now(), s.o.Online())
	tone := string(what)
	if what == showEnd && good(sc.Outcome) {
		tone = "done"
	}
	p.add(`<main class="{}">`, tone)
	switch what {
	case showStep:
		s.step(p, sc)
	case showEnd:
		less := ""
		if sc.Reason != "" && !good(sc.Outcome) {
			less = " less" // there is more to read
		}
		p.add(`<p class="icon{}">{}</p>`, less, icon(sc.Outcome))
		s.both(p, "h1", "say", "outcome."+string(sc.Outcome))
		if !good(sc.Outcome) {
			s.why(p, sc.Reason)
		}
	case showReady:
		if sc.Charged == 0 {
			s.none(p, g)
		} else {
			s.ready(p, sc, g)
		}
	default:
		p.WriteString(`<p class="icon less">⚠</p>`)
		s.both(p, "h1", "say", string(what))
	}
	if what == showOut || what == showOffline || what == showAlarm {
		s.nearest(p, g)
	}
	p.add(`</main><footer><span>{}</span>`, s.o.CabinetID)
	if code := s.o.Codes.Current(); what == showEnd && s.o.Online() && sc.Out == "" && sc.Charged > 0 && code != "" {
		// Who is owed a battery by this very swap need not wait until it is read.
		p.add(`<span><span lang="zh">{}</span> <b id="code">{}</b></span>`, s.texts["zh"]["code"], code)
	}
	if g.Hotline != "" {
		p.add(`<span>☎ {}</span>`, g.Hotline)
	}
	p.WriteString(`</footer>`)
}

// step tells the rider of the open swap what to do: the number stands in the
// colour of what is to be done, as on the rider's phone.
func (s *Screen) step(p *page, sc Scene) {
	arrow := map[string]string{"deposit": "⬇", "reopen": "⬇", "dispense": "⬆", "return": "⬆", "settle": "⚠"}[sc.Step]
	if sc.Slot == 0 {
		p.WriteString(`<p class="icon">•••</p>`)
		s.both(p, "h1", "say", "step."+sc.Step)
	} else {
		p.add(`<div class="two"><div class="panel {}"><p class="arrow">{}</p><p class="slot">{}</p></div><div>`, sc.Step, arrow, sc.Slot)
		s.both(p, "h1", "say", "step."+sc.Step)
		p.WriteString(`</div></div>`)
	}
	if sc.Soc != nil {
		p.WriteString(`<p class="soc">`)
		for _, lang := range languages {
			p.add(`<span lang="{}">{} {} %</span>`, lang, s.texts[lang]["in"], *sc.Soc)
		}
		p.WriteString(`</p>`)
	}
}

// why says more of an end, where it has a reason.
func (s *Screen) why(p *page, r protocol.Reason) {
	if r != "" {
		s.both(p, "p", "why", "reason."+string(r))
	}
}

// ready invites: scan, or type.
func (s *Screen) ready(p *page, sc Scene, g protocol.Guide) {
	code := s.o.Codes.Current()
	p.WriteString(`<div class="two">`)
	if g.PageURL != "" && code != "" {
		drawQR(p, g.PageURL+"#"+code, "qr")
	}
	p.WriteString(`<div>`)
	s.both(p, "h1", "say", "scan")
	p.WriteString(`<dl><div><dt>`)
	s.both(p, "span", "", "charged")
	p.add(`</dt><dd>{}</dd></div><div><dt>`, sc.Charged)
	s.both(p, "span", "", "empty")
	p.add(`</dt><dd>{}</dd></div></dl>`, sc.Empty)
	s.both(p, "p", "label", "code")
	p.add(`<p class="code" id="code">{}</p></div></div>`, code)
}

// none sends people elsewhere; who only hands a battery back can still scan.
func (s *Screen) none(p *page, g protocol.Guide) {
	s.both(p, "h1", "say", "none_charged")
	p.WriteString(`<div class="two">`)
	if code := s.o.Codes.Current(); g.PageURL != "" && code != "" {
		drawQR(p, g.PageURL+"#"+code, "qr less")
	}
	p.WriteString(`<div>`)
	s.nearest(p, g)
	p.WriteString(`</div></div>`)
}

func (s *Screen) nearest(p *page, g protocol.Guide) {
	if len(g.Nearest) == 0 {
		return
	}
	s.both(p, "h2", "", "nearest")
	p.WriteString(`<ol class="nearest">`)
	for _, n := range g.Nearest {
		p.add(`<li><b>{}</b> {} · {} <span>{}</span> <span>⚡ {}</span></li>`, n.CabinetID, n.Station, n.Street, distance(n.Metres), n.Charged)
	}
	p.add(`</ol><p class="as-of">{}</p>`, g.At.UTC().Add(chinaAhead).Format("01-02 15:04"))
}

// distance is short: 420 m, 1.3 km.
func distance(metres int) string {
	if metres < 1000 {
		return fmt.Sprintf("%d m", metres)
	}
	return fmt.Sprintf("%.1f km", float64(metres)/1000)
}

// good reports whether a swap ended as its rider wanted.
func good(o protocol.Outcome) bool {
	return o.Counts() || o == protocol.OutcomeIssued || o == protocol.OutcomeHandedBack
}

func icon(o protocol.Outcome) string {
	switch {
	case good(o):
		return "✔"
	case o == protocol.OutcomeReview:
		return "☎"
	default:
		return "⚠"
	}
}

// quietZone is the margin of a QR code, in modules (ISO/IEC 18004 wants 4).
const quietZone = 4

// drawQR draws a QR code as a picture of paths.
func drawQR(p *page, text, class string) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return // the code to type is there still
	}
	n := code.Bounds().Dx()
	fmt.Fprintf(p, `<svg class="%s" viewBox="0 0 %d %d" role="img" aria-label="QR"><path d="`, class, n+2*quietZone, n+2*quietZone)
	for y := range n {
		for x := range n {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fmt.Fprintf(p, "M%d %dh1v1h-1z", x+quietZone, y+quietZone)
			}
		}
	}
	p.WriteString(`"/></svg>`)
}
