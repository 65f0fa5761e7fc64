// Package screen is the cabinet's own display: a page for the kiosk browser that
// runs beside the agent, on the loopback interface.
//
// It knows what to say, in both languages at once, in each state of the cabinet,
// and draws the presence codes that prove that a rider stands before it. It gives
// an http.Handler, and the codes that are valid now. It needs a way to look at the
// cabinet, to know whether the backend is there, and the backend's last Guide,
// which it keeps in a file. It commands nothing and takes no input.
//
// # Why
//
// What the screen shows comes from the cabinet's own sensors and journal, so it
// goes on telling the truth when broker, network and backend are gone, and says
// so. The page asks for a fragment twice a second and shows it as it is; when the
// agent itself does not answer, the page says that. The HTML is written by hand:
// html/template calls methods by name, so that a linker that leaves out what
// nobody calls must keep them all, and the cabinet's board has little room.
package screen
