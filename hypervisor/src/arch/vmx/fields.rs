//! The fields of a VMCS, by the banks that [`super::vmcs`] keeps them in. Names and encodings: Intel SDM volume 3,
//! appendix B.

/// A field of one bank: its place there, and its encoding for VMREAD and VMWRITE.
pub(super) trait Field: Copy + 'static {
    /// Encodings of the bank's fields, in the order of their places.
    const ENCODINGS: &'static [u32];

    /// The place.
    fn index(self) -> usize;
}

macro_rules! bank {
    ($(#[$doc:meta])* $bank:ident { $($(#[$attr:meta])* $name:ident = $encoding:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum $bank {
            $($(#[$attr])* $name,)+
        }

        impl $bank {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
        }

        impl Field for $bank {
            const ENCODINGS: &'static [u32] = &[$($encoding,)+];

            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

bank! {
    /// The guest-state area: the guest changes it, and so do we.
    Guest {
        EsSelector = 0x0800,
        CsSelector = 0x0802,
        SsSelector = 0x0804,
        DsSelector = 0x0806,
        FsSelector = 0x0808,
        GsSelector = 0x080A,
        LdtrSelector = 0x080C,
        TrSelector = 0x080E,
        EsLimit = 0x4800,
        CsLimit = 0x4802,
        SsLimit = 0x4804,
        DsLimit = 0x4806,
        FsLimit = 0x4808,
        GsLimit = 0x480A,
        LdtrLimit = 0x480C,
        TrLimit = 0x480E,
        EsAccessRights = 0x4814,
        CsAccessRights = 0x4816,
        SsAccessRights = 0x4818,
        DsAccessRights = 0x481A,
        FsAccessRights = 0x481C,
        GsAccessRights = 0x481E,
        LdtrAccessRights = 0x4820,
        TrAccessRights = 0x4822,
        EsBase = 0x6806,
        CsBase = 0x6808,
        SsBase = 0x680A,
        DsBase = 0x680C,
        FsBase = 0x680E,
        GsBase = 0x6810,
        LdtrBase = 0x6812,
        TrBase = 0x6814,
        GdtrLimit = 0x4810,
        IdtrLimit = 0x4812,
        GdtrBase = 0x6816,
        IdtrBase = 0x6818,
        Cr0 = 0x6800,
        Cr3 = 0x6802,
        Cr4 = 0x6804,
        Dr7 = 0x681A,
        Rsp = 0x681C,
        Rip = 0x681E,
        Rflags = 0x6820,
        PendingDebugExceptions = 0x6822,
        SysenterCs = 0x482A,
        SysenterEsp = 0x6824,
        SysenterEip = 0x6826,
        Interruptibility = 0x4824,
        ActivityState = 0x4826,
        DebugCtl = 0x2802,
        Pat = 0x2804,
        Efer = 0x2806,
        VmcsLinkPointer = 0x2800,
        PreemptionTimer = 0x482E,
        Pdpte0 = 0x280A,
        Pdpte1 = 0x280C,
        Pdpte2 = 0x280E,
        Pdpte3 = 0x2810,
    }
}

impl Guest {
    /// Those that almost every exit needs: they are read at once after it, and so always known.
    pub const AT_EXIT: [Self; 3] = [Self::Rip, Self::Rflags, Self::Interruptibility];
}

bank! {
    /// Control fields: only we change them, but for what an exit clears in the entry's interruption information, and for
    /// the entry control "IA-32e mode guest", which follows EFER.LMA.
    Control {
        Vpid = 0x0000,
        IoBitmapA = 0x2000,
        IoBitmapB = 0x2002,
        MsrBitmap = 0x2004,
        TscOffset = 0x2010,
        VirtualApicAddress = 0x2012,
        EptPointer = 0x201A,
        EnclsExitingBitmap = 0x202E,
        PinBased = 0x4000,
        Primary = 0x4002,
        ExceptionBitmap = 0x4004,
        PageFaultErrorMask = 0x4006,
        PageFaultErrorMatch = 0x4008,
        Cr3TargetCount = 0x400A,
        Exit = 0x400C,
        ExitMsrStoreCount = 0x400E,
        ExitMsrLoadCount = 0x4010,
        Entry = 0x4012,
        EntryMsrLoadCount = 0x4014,
        EntryInterruption = 0x4016,
        EntryErrorCode = 0x4018,
        EntryInstructionLength = 0x401A,
        TprThreshold = 0x401C,
        Secondary = 0x401E,
        PleGap = 0x4020,
        PleWindow = 0x4022,
        Cr0Mask = 0x6000,
        Cr4Mask = 0x6002,
        Cr0Shadow = 0x6004,
        Cr4Shadow = 0x6006,
    }
}

bank! {
    /// What the processor tells of an exit: read-only.
    Info {
        Reason = 0x4402,
        Qualification = 0x6400,
        InterruptionInformation = 0x4404,
        InterruptionErrorCode = 0x4406,
        IdtVectoringInformation = 0x4408,
        IdtVectoringErrorCode = 0x440A,
        InstructionLength = 0x440C,
        GuestPhysicalAddress = 0x2400,
        GuestLinearAddress = 0x640A,
    }
}

/// The host-state area, written when a VP comes to a processor, and HOST_RSP at each entry.
pub(super) mod host {
    /// Selectors of ES, CS, SS, DS, FS, GS, TR.
    pub const SELECTORS: [u32; 7] = [0x0C00, 0x0C02, 0x0C04, 0x0C06, 0x0C08, 0x0C0A, 0x0C0C];
    /// IA32_PAT.
    pub const PAT: u32 = 0x2C00;
    /// IA32_EFER.
    pub const EFER: u32 = 0x2C02;
    /// IA32_SYSENTER_CS.
    pub const SYSENTER_CS: u32 = 0x4C00;
    /// CR0.
    pub const CR0: u32 = 0x6C00;
    /// CR3.
    pub const CR3: u32 = 0x6C02;
    /// CR4.
    pub const CR4: u32 = 0x6C04;
    /// Base of FS.
    pub const FS_BASE: u32 = 0x6C06;
    /// Base of GS.
    pub const GS_BASE: u32 = 0x6C08;
    /// Base of TR.
    pub const TR_BASE: u32 = 0x6C0A;
    /// Base of the GDT.
    pub const GDTR_BASE: u32 = 0x6C0C;
    /// Base of the IDT.
    pub const IDTR_BASE: u32 = 0x6C0E;
    /// IA32_SYSENTER_ESP.
    pub const SYSENTER_ESP: u32 = 0x6C10;
    /// IA32_SYSENTER_EIP.
    pub const SYSENTER_EIP: u32 = 0x6C12;
    /// RSP.
    pub const RSP: u32 = 0x6C14;
    /// RIP.
    pub const RIP: u32 = 0x6C16;
}

/// VM-instruction error: why VMLAUNCH or VMRESUME failed with ZF set.
pub(super) const VM_INSTRUCTION_ERROR: u32 = 0x4400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_listed_twice() {
        let mut all: Vec<u32> = [Guest::ENCODINGS, Control::ENCODINGS, Info::ENCODINGS].concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    /// Bits 11:10 of an encoding say what kind of field it is (SDM table 25-21).
    #[test]
    fn the_kind_in_an_encoding_is_that_of_its_bank() {
        let kind = |encoding: &u32| encoding >> 10 & 3;
        assert!(Control::ENCODINGS.iter().all(|e| kind(e) == 0));
        assert!(Info::ENCODINGS.iter().all(|e| kind(e) == 1));
        assert!(Guest::ENCODINGS.iter().all(|e| kind(e) == 2));
    }
}
