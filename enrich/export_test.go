package enrich

// SetReceive sets how much the kernel may hold for us, bytes, before Run.
func (k *Kernel) SetReceive(bytes int) { k.receive = bytes }
