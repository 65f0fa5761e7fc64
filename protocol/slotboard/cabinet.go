package slotboard

// Input registers of the cabinet's own board, unit CabinetUnit.
const (
	RegCabinetStatus   uint16 = 0x0000
	RegUpperTemp       uint16 = 0x0001
	RegLowerTemp       uint16 = 0x0002
	RegAirTemp         uint16 = 0x0003
	RegHumidity        uint16 = 0x0004
	RegWaterLevel      uint16 = 0x0005
	RegBackup          uint16 = 0x0006
	RegCabinetAlive    uint16 = 0x0007
	RegCabinetFitted   uint16 = 0x0008
	RegMainDoorLock    uint16 = 0x000E
	RegCabinetFirmware uint16 = 0x0010
	RegZoneTemps       uint16 = zoneTempsRegister
	// CabinetCount is the length of the cabinet's fast poll, from RegCabinetStatus.
	CabinetCount = 9
	// CabinetInputs is the length of the cabinet's image: every address below it
	// can be read, and one without content reads 0.
	CabinetInputs = 0x40
)

// Holding registers of the cabinet's own board.
const (
	HoldMainDoor       uint16 = 0x0000
	HoldCabinetFan     uint16 = 0x0001
	HoldCabinetLight   uint16 = 0x0002
	HoldContactor      uint16 = 0x0003
	HoldSprinklerZones uint16 = 0x0004 // two registers, bits 17..0
)

// Cabinet is everything that the cabinet's own board says.
type Cabinet struct {
	Status CabinetStatus
	// Fitted has the bits of CabinetStatus that the board can sense at all.
	Fitted     CabinetStatus
	UpperTemp  Value // 0.1 °C
	LowerTemp  Value // 0.1 °C
	AirTemp    Value // 0.1 °C
	Humidity   Value // 0.1 %
	WaterLevel Value // 0.1 %
	BackupMV   Value
	Alive      uint16
	MainDoor   Lock
	Firmware   string       // ≤ 8 ASCII characters
	ZoneTemps  [zones]Value // 0.1 °C
}

// Registers gives the cabinet's image: input registers 0000 to CabinetInputs-1.
func (c Cabinet) Registers() [CabinetInputs]uint16 {
	var image [CabinetInputs]uint16
	image[RegCabinetStatus] = uint16(c.Status)
	image[RegUpperTemp] = signed16(c.UpperTemp)
	image[RegLowerTemp] = signed16(c.LowerTemp)
	image[RegAirTemp] = signed16(c.AirTemp)
	image[RegHumidity] = unsigned16(c.Humidity, 1)
	image[RegWaterLevel] = unsigned16(c.WaterLevel, 1)
	image[RegBackup] = unsigned16(c.BackupMV, 1)
	image[RegCabinetAlive] = c.Alive
	image[RegCabinetFitted] = uint16(c.Fitted)
	image[RegMainDoorLock] = c.MainDoor.register()
	putText(image[RegCabinetFirmware:RegCabinetFirmware+textRegisters], c.Firmware)
	for i, v := range c.ZoneTemps {
		image[int(RegZoneTemps)+i] = signed16(v)
	}
	return image
}

// DecodeCabinet reads the CabinetCount registers of the cabinet's fast poll, or
// its whole image; what is not among the registers is absent.
func DecodeCabinet(registers []uint16) (Cabinet, error) {
	if err := count("cabinet", registers, CabinetCount); err != nil {
		return Cabinet{}, err
	}
	r := registers
	c := Cabinet{
		Status:     CabinetStatus(r[RegCabinetStatus]),
		Fitted:     CabinetStatus(r[RegCabinetFitted]),
		UpperTemp:  valueSigned16(r[RegUpperTemp]),
		LowerTemp:  valueSigned16(r[RegLowerTemp]),
		AirTemp:    valueSigned16(r[RegAirTemp]),
		Humidity:   value16(r[RegHumidity], 1),
		WaterLevel: value16(r[RegWaterLevel], 1),
		BackupMV:   value16(r[RegBackup], 1),
		Alive:      r[RegCabinetAlive],
	}
	if len(r) < CabinetInputs {
		return c, nil
	}
	c.MainDoor = decodeLock(r[RegMainDoorLock])
	c.Firmware = text(r[RegCabinetFirmware : RegCabinetFirmware+textRegisters])
	for i := range c.ZoneTemps {
		c.ZoneTemps[i] = valueSigned16(r[int(RegZoneTemps)+i])
	}
	return c, nil
}
