//! Devices of a machine, as far as a scheduler gives them away.

/// A device that is attached to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is: `gpu` or `nic`.
    pub name: &'static str,
    /// The memory node that it is attached to, as a position in [`crate::Topology::numa_nodes`]; `None` if it is as near
    /// to several.
    pub numa: Option<u32>,
    /// The package that it is attached to; `None` if it is as near to several.
    pub package: Option<u32>,
    /// Its address on the PCI bus, such as `0000:3b:00.0`.
    pub pci_address: String,
}

/// What the PCI configuration space says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PciId {
    pub class: u16,
    pub vendor: u16,
    pub device: u16,
    /// On the bus on which processors have their own graphics.
    pub is_on_first_bus: bool,
}

const NVIDIA: u16 = 0x10de;
const AMD: u16 = 0x1002;
const INTEL: u16 = 0x8086;

/// Graphics of server boards that show a console and compute nothing: ATI ES1000 and Rage XL.
const CONSOLES: [(u16, u16); 3] = [(AMD, 0x515e), (AMD, 0x5969), (AMD, 0x4752)];

impl PciId {
    /// The name under which devices like this one are given away, if they are. `computes` says that a driver offers it
    /// for computing, as CUDA or OpenCL.
    ///
    /// Classes are those of the PCI Code and ID Assignment Specification.
    pub fn name(self, computes: bool) -> Option<&'static str> {
        // A virtual machine has what it was given on its first bus as well; only VGA of these two is a processor's own there.
        let is_processors =
            self.is_on_first_bus && self.class == 0x0300 && matches!(self.vendor, AMD | INTEL);
        let is_graphics = matches!(self.vendor, NVIDIA | AMD | INTEL)
            && !CONSOLES.contains(&(self.vendor, self.device))
            && !is_processors;
        match self.class {
            // VGA, 3D, other display controllers, and processing accelerators.
            0x0300 | 0x0302 | 0x0380 | 0x1200 if computes || is_graphics => Some("gpu"),
            // Ethernet, InfiniBand, fabrics, and InfiniBand as it was before it had a class.
            0x0200 | 0x0207 | 0x0208 | 0x0c06 => Some("nic"),
            _ if computes => Some("gpu"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_and_graphics_of_processors_are_no_gpus() {
        let id = |class, vendor, device, is_on_first_bus| PciId { class, vendor, device, is_on_first_bus };
        assert_eq!(id(0x0302, NVIDIA, 0x1db8, false).name(false), Some("gpu"));
        assert_eq!(id(0x0380, AMD, 0x738c, false).name(false), Some("gpu"));
        assert_eq!(id(0x0300, AMD, 0x515e, false).name(false), None);
        assert_eq!(id(0x0300, 0x1a03, 0x2000, false).name(false), None, "a board's management controller");
        assert_eq!(id(0x0300, INTEL, 0x9a49, true).name(false), None);
        assert_eq!(id(0x0300, INTEL, 0x9a49, true).name(true), Some("gpu"), "a driver says that it computes");
        assert_eq!(id(0x0302, NVIDIA, 0x2335, true).name(false), Some("gpu"), "given to a virtual machine");
        assert_eq!(id(0x0b40, INTEL, 0x225c, false).name(true), Some("gpu"), "a coprocessor");
        assert_eq!(id(0x0207, 0x15b3, 0x1017, false).name(false), Some("nic"));
        assert_eq!(id(0x0680, NVIDIA, 0x1ac2, false).name(false), None, "a switch between GPUs");
    }
}
