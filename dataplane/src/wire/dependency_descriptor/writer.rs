//! Writes dependency descriptors, as encoders do: for tests and the simulator.
//!
//! The structures are those that libwebrtc announces for the scalability modes of their names
//! (`modules/video_coding/svc/scalability_structure_*.cc`).

use super::Targets;

/// A structure, as its stream's first packet tells it.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Number of the first template.
    pub offset: u8,
    /// The chain that protects each decode target; empty without chains.
    pub protected_by: &'static [u8],
    /// Templates, sorted by layer.
    pub templates: &'static [FrameTemplate],
    /// Width and height in pixels of each spatial layer, or nothing.
    pub sizes: &'static [(u32, u32)],
}

/// A template: spatial and temporal layer, indications (`-DSR`), frame differences, chain differences.
pub type FrameTemplate = (u8, u8, &'static str, &'static [u16], &'static [u8]);

/// A packet's descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet {
    /// First packet of the frame.
    pub starts_frame: bool,
    /// Last packet of the frame.
    pub ends_frame: bool,
    /// Which template, counted from the structure's first.
    pub template: u8,
    /// The frame's number.
    pub frame_number: u16,
    /// Whether the structure comes with it.
    pub with_structure: bool,
    /// Active decode targets, where it says them.
    pub active: Option<Targets>,
    /// Indications of its own.
    pub indications: Option<&'static str>,
    /// Frame differences of its own, 1 to 4,096.
    pub differences: Option<&'static [u16]>,
    /// Chain differences of its own.
    pub chains: Option<&'static [u8]>,
}

impl Script {
    /// Decode targets.
    #[must_use]
    pub fn targets(&self) -> u8 {
        let first = self.templates.first();
        first.map_or(0, |(_, _, indications, ..)| indications.len() as u8)
    }

    fn chains(&self) -> u32 {
        let first = self.templates.first();
        first.map_or(0, |(.., chains)| chains.len() as u32)
    }

    /// The value of the header extension.
    #[must_use]
    pub fn write(&self, packet: &Packet) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.put(u32::from(packet.starts_frame), 1);
        bits.put(u32::from(packet.ends_frame), 1);
        bits.put(u32::from(packet.template + self.offset) % 64, 6);
        bits.put(u32::from(packet.frame_number), 16);
        let extended = [
            packet.with_structure,
            packet.active.is_some(),
            packet.indications.is_some(),
            packet.differences.is_some(),
            packet.chains.is_some(),
        ];
        if extended.contains(&true) {
            for flag in extended {
                bits.put(u32::from(flag), 1);
            }
        }
        if packet.with_structure {
            self.write_structure(&mut bits);
        }
        if let Some(active) = packet.active {
            bits.put(active.0, self.targets());
        }
        bits.put_indications(packet.indications.unwrap_or_default());
        if let Some(differences) = packet.differences {
            for &difference in differences {
                let nibbles = match difference {
                    0..=0x10 => 1,
                    0x11..=0x100 => 2,
                    _ => 3,
                };
                bits.put(nibbles, 2);
                bits.put(u32::from(difference) - 1, 4 * nibbles as u8);
            }
            bits.put(0, 2);
        }
        for &chain in packet.chains.unwrap_or_default() {
            bits.put(u32::from(chain), 8);
        }
        bits.bytes
    }

    fn write_structure(&self, bits: &mut BitWriter) {
        bits.put(u32::from(self.offset), 6);
        bits.put(u32::from(self.targets()) - 1, 5);
        for pair in self.templates.windows(2) {
            if let [(spatial, temporal, ..), (next_spatial, next_temporal, ..)] = pair {
                let step = match (next_spatial - spatial, next_temporal) {
                    (0, next) if next == temporal => 0,
                    (0, _) => 1,
                    _ => 2,
                };
                bits.put(step, 2);
            }
        }
        bits.put(3, 2);
        for (_, _, indications, ..) in self.templates {
            bits.put_indications(indications);
        }
        for (_, _, _, differences, _) in self.templates {
            for &difference in *differences {
                bits.put(0x10 | (u32::from(difference) - 1), 5);
            }
            bits.put(0, 1);
        }
        bits.put_below(self.chains(), u32::from(self.targets()) + 1);
        for &chain in self.protected_by {
            bits.put_below(u32::from(chain), self.chains());
        }
        for (.., chains) in self.templates {
            for &chain in *chains {
                bits.put(u32::from(chain), 4);
            }
        }
        bits.put(u32::from(!self.sizes.is_empty()), 1);
        for &(width, height) in self.sizes {
            bits.put(width - 1, 16);
            bits.put(height - 1, 16);
        }
    }
}

/// Appends numbers of any width, the highest bit first; the last byte is filled up with zeros.
#[derive(Debug, Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits written so far.
    written: usize,
}

impl BitWriter {
    fn put(&mut self, value: u32, count: u8) {
        for index in (0..count).rev() {
            if self.written.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let (1, Some(last)) = ((value >> index) & 1, self.bytes.last_mut()) {
                *last |= 0x80 >> (self.written % 8);
            }
            self.written += 1;
        }
    }

    /// `write_ns` of the specification's appendix A.8.2.
    fn put_below(&mut self, value: u32, values: u32) {
        if values <= 1 {
            return;
        }
        let width = (u32::BITS - values.leading_zeros()) as u8;
        let spared = (1 << width) - values;
        if value < spared {
            self.put(value, width - 1);
        } else {
            self.put(value + spared, width);
        }
    }

    fn put_indications(&mut self, indications: &str) {
        for symbol in indications.bytes() {
            let code = match symbol {
                b'D' => 1,
                b'S' => 2,
                b'R' => 3,
                _ => 0,
            };
            self.put(code, 2);
        }
    }
}

/// One layer.
pub const L1T1: Script = Script {
    offset: 0,
    protected_by: &[0],
    templates: &[(0, 0, "S", &[], &[0]), (0, 0, "S", &[1], &[1])],
    sizes: &[],
};

/// Two temporal layers.
pub const L1T2: Script = Script {
    offset: 0,
    protected_by: &[0, 0],
    templates: &[
        (0, 0, "SS", &[], &[0]),
        (0, 0, "SS", &[2], &[2]),
        (0, 1, "-D", &[1], &[1]),
    ],
    sizes: &[(1280, 720)],
};

/// Three temporal layers.
pub const L1T3: Script = Script {
    offset: 61,
    protected_by: &[0, 0, 0],
    templates: &[
        (0, 0, "SSS", &[], &[0]),
        (0, 0, "SSS", &[4], &[4]),
        (0, 1, "-DS", &[2], &[2]),
        (0, 2, "--D", &[1], &[1]),
        (0, 2, "--D", &[1], &[3]),
    ],
    sizes: &[(1280, 720)],
};

/// Two spatial layers, the higher predicted from the lower in every picture.
pub const L2T1: Script = Script {
    offset: 10,
    protected_by: &[0, 1],
    templates: &[
        (0, 0, "SR", &[2], &[2, 1]),
        (0, 0, "SS", &[], &[0, 0]),
        (1, 0, "-S", &[2, 1], &[1, 1]),
        (1, 0, "-S", &[1], &[1, 1]),
    ],
    sizes: &[(640, 360), (1280, 720)],
};

/// Three spatial and three temporal layers, predicted from lower spatial ones in every picture.
pub const L3T3: Script = Script {
    offset: 0,
    protected_by: &[0, 0, 0, 1, 1, 1, 2, 2, 2],
    templates: &[
        (0, 0, "SSSRRRRRR", &[12], &[12, 11, 10]),
        (0, 0, "SSSSSSSSS", &[], &[0, 0, 0]),
        (0, 1, "-DS-RR-RR", &[6], &[6, 5, 4]),
        (0, 2, "--D--R--R", &[3], &[3, 2, 1]),
        (0, 2, "--D--R--R", &[3], &[9, 8, 7]),
        (1, 0, "---SSSRRR", &[12, 1], &[1, 1, 1]),
        (1, 0, "---SSSSSS", &[1], &[1, 1, 1]),
        (1, 1, "----DS-RR", &[6, 1], &[7, 6, 5]),
        (1, 2, "-----D--R", &[3, 1], &[4, 3, 2]),
        (1, 2, "-----D--R", &[3, 1], &[10, 9, 8]),
        (2, 0, "------SSS", &[12, 1], &[2, 1, 1]),
        (2, 0, "------SSS", &[1], &[2, 1, 1]),
        (2, 1, "-------DS", &[6, 1], &[8, 7, 6]),
        (2, 2, "--------D", &[3, 1], &[5, 4, 3]),
        (2, 2, "--------D", &[3, 1], &[11, 10, 9]),
    ],
    sizes: &[(320, 180), (640, 360), (1280, 720)],
};

/// Three spatial and three temporal layers, predicted from lower spatial ones in key pictures alone.
pub const L3T3_KEY: Script = Script {
    offset: 50,
    protected_by: &[0, 0, 0, 1, 1, 1, 2, 2, 2],
    templates: &[
        (0, 0, "SSSSSSSSS", &[], &[0, 0, 0]),
        (0, 0, "SSS------", &[12], &[12, 11, 10]),
        (0, 1, "-DS------", &[6], &[6, 5, 4]),
        (0, 2, "--D------", &[3], &[3, 2, 1]),
        (0, 2, "--D------", &[3], &[9, 8, 7]),
        (1, 0, "---SSSSSS", &[1], &[1, 1, 1]),
        (1, 0, "---SSS---", &[12], &[1, 12, 11]),
        (1, 1, "----DS---", &[6], &[7, 6, 5]),
        (1, 2, "-----D---", &[3], &[4, 3, 2]),
        (1, 2, "-----D---", &[3], &[10, 9, 8]),
        (2, 0, "------SSS", &[1], &[2, 1, 1]),
        (2, 0, "------SSS", &[12], &[2, 1, 12]),
        (2, 1, "-------DS", &[6], &[8, 7, 6]),
        (2, 2, "--------D", &[3], &[5, 4, 3]),
        (2, 2, "--------D", &[3], &[11, 10, 9]),
    ],
    sizes: &[(320, 180), (640, 360), (1280, 720)],
};

/// All of them.
pub const SCRIPTS: [Script; 6] = [L1T1, L1T2, L1T3, L2T1, L3T3, L3T3_KEY];
