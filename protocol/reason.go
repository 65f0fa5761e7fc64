package protocol

import "slices"

// Reason says why a scan was refused, why a deposit was not accepted, or why a
// case is in review. The list is closed: every reason has a text for riders.
type Reason string

// Why a scan was refused.
const (
	// By the agent, in a refused message.
	ReasonBusy             Reason = "busy"               // a swap runs, a door is open, or too few pulses are left
	ReasonNoChargedBattery Reason = "no_charged_battery" // nothing to dispense
	ReasonNoEmptySlot      Reason = "no_empty_slot"      // nowhere to deposit
	ReasonOutOfService     Reason = "out_of_service"     // by staff, a new epoch, or a failed journal
	ReasonAlarm            Reason = "alarm"              // a safety alarm is latched
	ReasonMaintenance      Reason = "maintenance"        // staff work at the cabinet
	ReasonPresence         Reason = "presence_required"  // the screen's code or the button is missing, wrong or too old
	ReasonGrantLate        Reason = "grant_late"         // in a VOID: no grant came within 15 s of prepared

	// By the backend.
	ReasonCabinetUnknown Reason = "cabinet_unknown" // no such cabinet
	ReasonCabinetOffline Reason = "cabinet_offline" // it does not answer
	ReasonRiderNotActive Reason = "rider_not_active"
	ReasonSwapOpen       Reason = "swap_open"    // this rider has another swap open
	ReasonNoBattery      Reason = "no_battery"   // nothing in custody to deposit and no credit
	ReasonUnderReview    Reason = "under_review" // the only battery or credit is part of a review
	ReasonRecovering     Reason = "recovering"   // restored from a backup: no owed or issue yet
	ReasonTooManyScans   Reason = "too_many_scans"
)

// Why a deposit was not accepted (DEPOSIT and CLOSED records).
const (
	ReasonNotPluggedIn     Reason = "not_plugged_in" // presence without a serial
	ReasonNotExpected      Reason = "not_expected"   // not a battery this rider has
	ReasonFlagged          Reason = "flagged"        // recalled: it is kept
	ReasonTooHot           Reason = "too_hot"        // or too cold: outside plausible limits
	ReasonVoltage          Reason = "implausible_voltage"
	ReasonSensorsDisagree  Reason = "sensors_disagree"   // presence switch and serial contradict
	ReasonDoorDidNotOpen   Reason = "door_did_not_open"  // every pulsed slot stayed closed
	ReasonDepositLate      Reason = "deposit_late"       // closed more than 90 s after its pulse
	ReasonPowerCut         Reason = "power_cut"          // closed by a restart
	ReasonPulseWindowEnded Reason = "pulse_window_ended" // no pulse later than 6 min after ACCEPT
)

// Why an order of maintenance is not carried out, or why maintenance ended by
// itself.
const (
	ReasonKeyNotTurned    Reason = "key_not_turned"   // the key switch in the cabinet
	ReasonNoMaintenance   Reason = "no_maintenance"   // none has begun in this boot
	ReasonMaintenanceOver Reason = "maintenance_over" // it began 15 minutes ago, or is ending
	ReasonSlotSilent      Reason = "slot_silent"      // nothing is heard of the slot that is to be opened
)

// Why a case is in review.
const (
	ReasonHeldBattery      Reason = "held_battery"      // deposited, not accepted, still in
	ReasonOtherBattery     Reason = "other_battery"     // another battery came back into a dispense slot
	ReasonInventoryDiffers Reason = "inventory_differs" // the cabinet differs from ACCEPT in more than one way
	ReasonForeignSerial    Reason = "foreign_serial"    // a serial that the registry does not know
	ReasonSameSerialTwice  Reason = "same_serial_twice" // one serial in two places
	ReasonUnknownSwap      Reason = "unknown_swap"      // records of a swap that the books do not have
	ReasonContradictsBooks Reason = "contradicts_books" // the record cannot follow what the books say
	ReasonLogHole          Reason = "log_hole"          // records that no agent can supply any more
	ReasonEpochReplaced    Reason = "epoch_replaced"    // the cabinet's journal was lost or rolled back
	ReasonMalformedRecord  Reason = "malformed_record"  // a payload that does not decode
)

var refusals = []Reason{
	ReasonBusy, ReasonNoChargedBattery, ReasonNoEmptySlot, ReasonOutOfService, ReasonAlarm, ReasonPresence, ReasonGrantLate,
	ReasonMaintenance,
	ReasonCabinetUnknown, ReasonCabinetOffline, ReasonRiderNotActive, ReasonSwapOpen, ReasonNoBattery,
	ReasonUnderReview, ReasonRecovering, ReasonTooManyScans,
}

var reasons = append(slices.Clone(refusals),
	ReasonNotPluggedIn, ReasonNotExpected, ReasonFlagged, ReasonTooHot, ReasonVoltage, ReasonSensorsDisagree,
	ReasonDoorDidNotOpen, ReasonDepositLate, ReasonPowerCut, ReasonPulseWindowEnded,
	ReasonKeyNotTurned, ReasonNoMaintenance, ReasonMaintenanceOver, ReasonSlotSilent,
	ReasonHeldBattery, ReasonOtherBattery, ReasonInventoryDiffers, ReasonForeignSerial, ReasonSameSerialTwice,
	ReasonUnknownSwap, ReasonContradictsBooks, ReasonLogHole, ReasonEpochReplaced, ReasonMalformedRecord,
)

// Refusals are the reasons why a scan can be refused.
func Refusals() []Reason { return slices.Clone(refusals) }

// Reasons is the closed list, in the order of the constants.
func Reasons() []Reason { return slices.Clone(reasons) }

// Valid reports whether r is on the closed list.
func (r Reason) Valid() bool { return slices.Contains(reasons, r) }
