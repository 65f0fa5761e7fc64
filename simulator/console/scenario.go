package console

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Scenario is trouble that happens by itself: lines as a person could type them,
// at their times.
type Scenario struct {
	Name string
	// Sentence says what happens and what can be watched.
	Sentence string
	steps    []step
}

// step is one line, so long after the one before. SLOT in it is the highest slot
// with a battery, NEXT the one below it.
type step struct {
	after time.Duration
	line  string
}

// toCharge is how long an agent that reads its slots every second may take until
// it charges a battery that has become flat.
const toCharge = 15 * time.Second

// Scenarios is the table of them.
func Scenarios() []Scenario {
	flat := []step{{5 * time.Second, "soc SLOT 40"}, {0, "soc NEXT 45"}}
	charging := func(rest ...step) []step { return append(flat, rest...) }
	return []Scenario{
		{"runaway", "A battery heats itself up by 2 °C a second while it is charged; the slot board's own protection is out of order.",
			charging(step{toCharge, "fault no_protection SLOT"}, step{0, "fault runaway SLOT"})},
		{"smoke", "The cabinet's smoke detector answers for a minute.",
			charging(step{toCharge, "smoke on"}, step{time.Minute, "smoke off"})},
		{"silent-sensor", "A battery's electronics fall silent while it is charged, and current flows on.",
			charging(step{toCharge, "fault silent_battery SLOT"})},
		{"hot-battery", "A battery has 58 °C, above the default of warm and below that of hot, and keeps it.",
			charging(step{toCharge, "heat SLOT 58"})},
		{"stuck-relay", "A charger's relay sticks: current flows on when the slot, at 48 °C, is switched off.",
			charging(step{toCharge, "fault stuck_charger SLOT"}, step{5 * time.Second, "heat SLOT 48"})},
		{"emergency-stop", "Somebody presses the emergency stop and releases it after a minute; the contactor stays open until it is closed by a command.",
			charging(step{toCharge, "stop on"}, step{time.Minute, "stop off"})},
		{"water", "Water stands in the cabinet.",
			charging(step{toCharge, "water on"})},
		{"supply-low", "The mains fall to 75 %, the backup supply carries the electronics, and after a minute the mains are back.",
			charging(step{toCharge, "supply 75"}, step{time.Minute, "supply 100"})},
		{"frozen-board", "A slot board freezes: it answers what was so then, for ever, its alive counter standing still.",
			charging(step{toCharge, "fault frozen_board SLOT"})},
		{"vanishing-port", "The serial adapter is pulled out for twenty seconds and comes back, twice.",
			[]step{{10 * time.Second, "vanish"}, {20 * time.Second, "return"}, {30 * time.Second, "vanish"}, {20 * time.Second, "return"}}},
		{"frost", "15 °C below zero outside, and a battery that came in at 5 below: it is warmed before it is charged.",
			[]step{{5 * time.Second, "weather -15 2"}, {0, "heat SLOT -5"}, {0, "soc SLOT 20"}, {time.Minute, "heat SLOT 0"}}},
		{"hot-day", "38 °C outside and 44 °C in the afternoon: charging makes it warmer than batteries may be charged.",
			[]step{{5 * time.Second, "weather 41 3"}, {0, "soc SLOT 20"}, {0, "soc NEXT 25"}}},
	}
}

// ScenarioHelp lists them with their sentences, as the details of a help text.
func ScenarioHelp() string {
	var b strings.Builder
	b.WriteString("Scenarios:\n\n")
	for _, s := range Scenarios() {
		fmt.Fprintf(&b, "  %-16s%s\n", s.Name, s.Sentence)
	}
	return b.String()
}

// FindScenario is the one of that name.
func FindScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q, expected one of %s", name, strings.Join(names, ", "))
}

// Play plays a scenario at a cabinet until ctx ends. wait waits, and says is told
// each line that is played, and what came of it.
func (c *Console) Play(ctx context.Context, s Scenario, cabinetID string, wait func(context.Context, time.Duration) error, says func(string)) {
	slots := strings.NewReplacer(c.stocked(cabinetID)...)
	for _, step := range s.steps {
		if wait(ctx, step.after) != nil {
			return
		}
		line := slots.Replace(step.line)
		said, err := c.Do("cabinet " + cabinetID + " " + line)
		if err != nil {
			said = "no: " + err.Error()
		}
		says(strings.TrimSpace(fmt.Sprintf("scenario %s: %s: %s  %s", s.Name, cabinetID, line, said)))
	}
}

// stocked says which slots SLOT and NEXT are: the highest two with a battery.
func (c *Console) stocked(cabinetID string) []string {
	facts := c.World.Facts(c.Now(), cabinetID)
	names := []string{"SLOT", "NEXT"}
	var pairs []string
	for i := len(facts) - 1; i >= 0 && len(pairs) < 2*len(names); i-- {
		if facts[i].Battery != nil {
			pairs = append(pairs, names[len(pairs)/2], fmt.Sprint(facts[i].Slot))
		}
	}
	return pairs
}

// Wait waits for a while, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
