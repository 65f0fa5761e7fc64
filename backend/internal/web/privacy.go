package web

import "net/http"

// privacyVersion names the privacy notice that riders accept when they bind a
// phone: the day on which its text was last changed, and the number of the change
// where a day has several. A test holds it against the text.
const privacyVersion = "2026-12-01.3"

// privacyParts are the parts of the notice: a heading and a text each.
var privacyParts = [...]string{"who", "what", "why", "not", "long", "others", "rights", "ask"}

// Privacy are the parts of the notice.
func (page) Privacy() []string { return privacyParts[:] }

// pagePrivacy is what riders are told of their data.
func (w *Web) pagePrivacy(rw http.ResponseWriter, r *http.Request) {
	w.render(rw, r, http.StatusOK, "page", page{Show: showPrivacy, CabinetID: from(r), Retention: w.o.RetentionMonths, Bind: bindView{Version: privacyVersion}})
}
