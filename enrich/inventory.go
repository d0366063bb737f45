package enrich

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// maxInventory bounds an inventory file: some 10 kB per container.
const maxInventory = 512 << 20

// ReadInventory reads what `docker inspect $(docker ps -aq)` prints: a JSON array of containers, or several arrays on end. It
// returns the events of an engine that has nothing left to tell, sorted by time:
//
//   - Listed, at State.StartedAt: a container lives from there to State.FinishedAt, open-ended where that is absent or the year 1;
//     0, the beginning of time, where the start is unknown.
//   - Connected for each network with an address, at the same time, and Disconnect at FinishedAt.
//   - Then Synced at time 0 and Progress at the end of time: the engine counts as heard from the beginning, and nothing needs to
//     wait for more.
//
// Of two entries with one Id the later one counts. Errors name the container's place in the file, and line and column where known.
func ReadInventory(r io.Reader, engine string) ([]Event, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInventory+1))
	if err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	if len(data) > maxInventory {
		return nil, fmt.Errorf("read inventory: more than %d MiB", maxInventory>>20)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	containers, err := inventoryContainers(data, engine)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, c := range containers {
		events = append(events, lifetime(c)...)
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		// An address that passes from one container to the next at the same instant is given up first.
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(inventoryOrder[a.Kind], inventoryOrder[b.Kind]))
	})
	return append(events,
		Event{Time: 0, Kind: Synced, Engine: engine},
		Event{Time: math.MaxInt64, Kind: Progress, Engine: engine}), nil
}

var inventoryOrder = map[EventKind]int{Disconnect: 0, Listed: 1, Connected: 2}

func lifetime(c *Container) []Event {
	from := c.Started
	events := []Event{{Time: from, Kind: Listed, Engine: c.Engine, Container: c}}
	for _, at := range c.Attachments {
		if len(at.Addrs) == 0 {
			continue
		}
		b := Binding(at)
		events = append(events, Event{Time: from, Kind: Connected, Engine: c.Engine, Container: c, Binding: &b})
		if c.Finished != 0 {
			events = append(events, Event{Time: c.Finished, Kind: Disconnect, Engine: c.Engine, Container: c, Binding: &b})
		}
	}
	return events
}

func inventoryContainers(data []byte, engine string) ([]*Container, error) {
	var out []*Container
	place := map[string]int{} // id -> index in out
	index := 0
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		at := dec.InputOffset()
		start, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil && start != json.Delim('[') {
			err = fmt.Errorf("expected '[', the start of an array of containers as docker inspect prints it")
		}
		if err != nil {
			return nil, inventoryError(data, at, index, err)
		}
		for dec.More() {
			begin := dec.InputOffset()
			var e inspected
			if err := dec.Decode(&e); err != nil {
				return nil, inventoryError(data, begin, index, err)
			}
			c, err := e.container(engine, "", habits{cgroupHost: true})
			if err != nil {
				return nil, inventoryError(data, valueAt(data, begin), index, err)
			}
			if i, seen := place[c.ID]; seen {
				out[i] = c
			} else {
				place[c.ID] = len(out)
				out = append(out, c)
			}
			index++
		}
		if _, err := dec.Token(); err != nil { // ']'
			return nil, inventoryError(data, dec.InputOffset(), index, err)
		}
	}
}

// valueAt is where the value behind a separator begins.
func valueAt(data []byte, at int64) int64 {
	return int64(len(data) - len(bytes.TrimLeft(data[at:], ", \t\r\n")))
}

// inventoryError finds line and column. at is where the value begins that could not be read, or the end of the one before it.
func inventoryError(data []byte, at int64, index int, err error) error {
	var typed *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &typed):
		// The offset counts from behind the separator, and is behind the last byte read.
		if rest := bytes.TrimLeft(data[at:], " \t\r\n"); len(rest) > 0 && rest[0] == ',' {
			at = int64(len(data)-len(rest)) + 1
		}
		at += typed.Offset - 1
		err = fmt.Errorf("%s is %s", cmp.Or(typed.Field, "it"), typed.Value)
	case errors.As(err, &syntax):
		at = valueAt(data, at)
		rest := data[at:]
		// A Decoder's own offsets are not of the file. Where a parser of the rest alone sees nothing, the separator is wrong.
		if again := (*json.SyntaxError)(nil); errors.As(json.Unmarshal(rest, new(json.RawMessage)), &again) && again.Error() == syntax.Error() {
			at += again.Offset - 1
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		at, err = int64(len(data)), errors.New("the file ends inside the array")
	}
	before := data[:min(max(at, 0), int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("inventory, container %d (line %d, column %d): %w", index, line, column, err)
}
