package protocol

import (
	"fmt"
	"strings"
)

const topicRoot = "swap/v1/"

// Channel is the last part of a topic: who speaks, and of what.
type Channel string

// The channels below swap/v1/{cabinet_id}/. QoS 1 unless said; never retained.
const (
	UpLog       Channel = "up/log"       // journal records, stop-and-wait
	UpRPC       Channel = "up/rpc"       // hello, prepared, refused, inventory
	UpTelemetry Channel = "up/telemetry" // QoS 0; the heartbeat
	UpWill      Channel = "up/will"      // a hint for screens, never an input to a decision
	Down        Channel = "down"         // everything to the cabinet
)

// Topic is the MQTT topic of a cabinet's channel.
func Topic(id CabinetID, ch Channel) string { return topicRoot + string(id) + "/" + string(ch) }

// SharedFilter is the subscription by which backends share a channel of all
// cabinets: each message reaches one of them.
func SharedFilter(ch Channel) string { return "$share/backend/" + Filter(ch) }

// Filter is the subscription to a channel of all cabinets.
func Filter(ch Channel) string { return topicRoot + "+/" + string(ch) }

// ParseTopic takes a topic apart.
func ParseTopic(topic string) (CabinetID, Channel, error) {
	rest, ok := strings.CutPrefix(topic, topicRoot)
	if !ok {
		return "", "", fmt.Errorf("topic %.80q: want %s{cabinet_id}/…", topic, topicRoot)
	}
	id, ch, _ := strings.Cut(rest, "/")
	switch Channel(ch) {
	case UpLog, UpRPC, UpTelemetry, UpWill, Down:
	default:
		return "", "", fmt.Errorf("topic %.80q: unknown channel %.40q", topic, ch)
	}
	if err := CabinetID(id).Validate(); err != nil {
		return "", "", fmt.Errorf("topic: %w", err)
	}
	return CabinetID(id), Channel(ch), nil
}
