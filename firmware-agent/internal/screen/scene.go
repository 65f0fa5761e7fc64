package screen

import (
	"time"

	"batteryswap/protocol"
)

// Scene is what happens at the cabinet now; see cabinet.Scene.
type Scene struct {
	Alarm, Maintenance bool
	Out                protocol.Reason
	Step               string
	Slot               int
	Soc                *int // %
	Outcome            protocol.Outcome
	Reason             protocol.Reason
	EndedAt            time.Duration
	Charged, Empty     int
}

// How long the end of a swap stays on the screen: until its rider has read it.
const (
	endShown  = 15 * time.Second
	moreShown = 40 * time.Second // where there is more to read than "done"
)

// show is which page the screen shows.
type show string

// The pages, from the most to the least urgent.
const (
	showAlarm       show = "alarm"
	showStep        show = "step"
	showMaintenance show = "maintenance"
	showEnd         show = "end"
	showOut         show = "out_of_service"
	showOffline     show = "offline"
	showReady       show = "ready"
)

// shows decides. A swap that has begun goes on, whatever else is the matter, but
// for an alarm: then people are to go away.
func (sc Scene) shows(now time.Duration, online bool) show {
	stays := moreShown
	if sc.Outcome == protocol.OutcomeSwapped {
		stays = endShown
	}
	switch {
	case sc.Alarm:
		return showAlarm
	case sc.Step != "":
		return showStep
	case sc.Maintenance:
		return showMaintenance
	case sc.Outcome != "" && now-sc.EndedAt < stays:
		return showEnd
	case sc.Out != "":
		return showOut
	case !online:
		return showOffline
	default:
		return showReady
	}
}
