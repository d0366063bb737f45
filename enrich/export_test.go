package enrich

// SetReceive sets how much the kernel may hold for us, bytes, before Run.
func (k *Kernel) SetReceive(bytes int) { k.receive = bytes }

// SetLegacy makes a Kernel behave as where there are control groups of version 1 alone.
func (k *Kernel) SetLegacy() { k.legacy = true }

// LegacyMount is where a hierarchy of version 1 is mounted.
var LegacyMount = legacyMount
