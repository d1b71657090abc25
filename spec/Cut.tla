-------------------------------- MODULE Cut --------------------------------
(***************************************************************************)
(* The cut protocol of Stillpoint: how one consistent snapshot of running  *)
(* processes, stores that cannot see colours, and the messages between     *)
(* them is taken, sealed or given up, and restored.                        *)
(*                                                                         *)
(* The rules are those of packages/core/src/cut; README.md maps actions to *)
(* functions. The judges in here (know, cutKnow, gSent, gGot, life) are    *)
(* history variables: no action of the protocol reads them.                *)
(*                                                                         *)
(* Orders and facts: `issued[a]` is every order that was ever given for    *)
(* attempt a, `facts` everything that was ever reported for the current    *)
(* one. Whoever acts on an order or a fact may do so at any later time,    *)
(* again, or never; so delay, repetition and loss need no actions.         *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets, Sequences, TLC

CONSTANTS
  Procs,       \* processes with the SDK
  Joiners,     \* those of them that take no part in the first cut: they join at any time, with its epoch or an older one
  Stores,
  Outsiders,   \* without the SDK: they carry what they learn anywhere
  Grade,       \* [Stores -> {"owned", "gated", "quiesced"}]
  Writers,     \* [Stores -> SUBSET Procs]; of a quiesced store: everybody, outsiders too
  Channels,    \* SUBSET (Procs \X Procs)
  Fifo,        \* all channels keep their order and carry markers
  Volatile,    \* a channel may lose a message for ever
  Dups,        \* a channel may deliver a message twice
  SendsMax,    \* messages on each channel
  AttemptsMax, \* cuts, each with an epoch of its own (ADR 0006)
  Overruns,    \* a gate may close at its deadline though handlers run (ADR 0007)
  HoldsMax,    \* times that a gate may close in one attempt
  LossesMax,   \* participants that crash, or lose their connection
  LeasesEnd,   \* a lease may end at any moment
  MayAbort,    \* anybody may give up an attempt at any moment, deadlines included
  CoordsMax,   \* coordinators, one after another
  RestoresMax,
  Faults       \* rules that are switched off, to see that they are needed

Keeps(rule) == rule \notin Faults

VARIABLES
  \* participants
  work,    \* [Parts -> attempt last taken part in]
  stage,   \* [Parts -> where in it]
  brk,     \* [Parts -> "no", "reopened" or "ended": whether the hold has been broken]
  hno,     \* [Procs -> number of the hold]
  ep,      \* [Procs -> epoch]
  gen,     \* [Procs -> generation]
  joined,  \* the processes that are there
  \* channels
  chan, sent, got, base,
  \* what the marks and the drain report, per channel
  cSent, cGot, recorded, missing,
  heard,   \* [Procs -> a process outside the plan was heard between the hold and the mark, or made it enter]
  \* coordinators and what they persist
  co,      \* [1..CoordsMax -> [ph, at]]
  ldr,     \* the one whose fencing token is the greatest
  att,     \* the last attempt that was planned
  issued, facts, relied,
  rec,     \* [attempt -> last record]
  snap,    \* attempts whose snapshot is in the repository
  sysGen,
  losses,
  \* history
  know,    \* [Actors -> participants of whose events after their mark it knows]
  cutKnow, \* [Parts -> {what it knew at its mark}], or Unmarked
  gSent, gGot, \* [Channels -> what was sent, what was handled when the mark was taken]
  life,    \* [Procs -> how often it has been restored]
  broken   \* invariants about a single step that a step has broken

parts == <<work, stage, brk, hno, ep, gen, joined>>
nets == <<chan, sent, got, base>>
counts == <<cSent, cGot, recorded, missing, heard>>
coords == <<co, ldr, att, issued, relied, rec, snap, sysGen>>
hist == <<know, cutKnow, gSent, gGot, life, broken>>
vars == <<parts, nets, counts, coords, facts, losses, hist>>

Parts == Procs \cup Stores
Actors == Parts \cup Outsiders
Attempts == 1..AttemptsMax
Unmarked == {}
Max(a, b) == IF a > b THEN a ELSE b

(***************************************************************************)
(* The plan (plan.ts): who takes part, and who must be held.               *)
(***************************************************************************)
QStores == {s \in Stores : Grade[s] = "quiesced"}
Gated(p) == QStores # {} \/ \E s \in Stores : Grade[s] = "gated" /\ p \in Writers[s]
Owned(p) == {s \in Stores : Grade[s] = "owned" /\ p \in Writers[s]}
PlannedProcs == IF att <= 1 THEN Procs \ Joiners ELSE Procs
Planned == PlannedProcs \cup Stores
MustHold == PlannedProcs \cup QStores
Inbound(p) == {c \in Channels : c[2] = p /\ c[1] \in PlannedProcs}
\* Nobody holds who is outside the plan: what comes from there is noticed (ADR 0008).
IsStranger(p) == p \notin PlannedProcs

Said(kind, x) == \E f \in facts : f.t = kind /\ f.x = x /\ (f.a = att \/ ~Keeps("C8"))
Fact(kind, x, n, u, v) == [t |-> kind, x |-> x, n |-> n, u |-> u, v |-> v, a |-> work'[x]]
\* Facts of an older attempt are stale: nobody reads them, so nobody keeps them.
Report(new) == facts' = facts \cup {f \in new : f.a = att}

IsMarked(x) == cutKnow[x] # Unmarked

(***************************************************************************)
(* What may run at a process (gate.ts: mayRun, isIngressHeld), and what a  *)
(* store takes.                                                            *)
(***************************************************************************)
GateOpen(p) ==
  CASE stage[p] \in {"out", "resumed", "captured"} -> TRUE
    [] stage[p] = "marking" -> ~Keeps("marking")
    [] OTHER -> ~Gated(p) \/ brk[p] # "no"

IngressOpen(p) ==
  /\ GateOpen(p)
  /\ (stage[p] = "held" /\ brk[p] = "no") => ~Keeps("outsiders")

StoreOpen(s) == ~(s \in QStores /\ stage[s] \in {"held", "marked"} /\ brk[s] = "no")

Deliverable(c) == IF Fifo THEN (IF chan[c] = <<>> THEN {} ELSE {Head(chan[c])}) ELSE chan[c]
\* What may have arrived, though it waits: behind a gate, or behind what waits there.
InFlight(c) == IF Fifo THEN {chan[c][i] : i \in DOMAIN chan[c]} ELSE chan[c]
Without(c, m) == IF Fifo THEN Tail(chan[c]) ELSE chan[c] \ {m}
With(c, m) == IF Fifo THEN Append(chan[c], m) ELSE chan[c] \cup {m}
Message(c, s) == [s |-> s, e |-> ep[c[1]], g |-> gen[c[1]], l |-> life[c[1]], k |-> know[c[1]]]

(***************************************************************************)
Init ==
  /\ work = [x \in Parts |-> 0]
  /\ stage = [x \in Parts |-> "out"]
  /\ brk = [x \in Parts |-> "no"]
  /\ hno = [p \in Procs |-> 0]
  /\ ep = [p \in Procs |-> 0]
  /\ gen = [p \in Procs |-> 1]
  /\ joined = Procs \ Joiners
  /\ chan = [c \in Channels |-> IF Fifo THEN <<>> ELSE {}]
  /\ sent = [c \in Channels |-> 0]
  /\ got = [c \in Channels |-> {}]
  /\ base = [c \in Channels |-> 0]
  /\ cSent = [c \in Channels |-> {}]
  /\ cGot = [c \in Channels |-> {}]
  /\ recorded = [c \in Channels |-> {}]
  /\ missing = [c \in Channels |-> {}]
  /\ heard = [p \in Procs |-> FALSE]
  /\ co = [c \in 1..CoordsMax |-> [ph |-> IF c = 1 THEN "idle" ELSE "none", at |-> 0]]
  /\ ldr = 1
  /\ att = 0
  /\ issued = [a \in Attempts |-> {}]
  /\ facts = {}
  /\ relied = [p \in Procs |-> 0]
  /\ rec = [a \in Attempts |-> "none"]
  /\ snap = {}
  /\ sysGen = 1
  /\ losses = 0
  /\ know = [x \in Actors |-> {}]
  /\ cutKnow = [x \in Parts |-> Unmarked]
  /\ gSent = [c \in Channels |-> {}]
  /\ gGot = [c \in Channels |-> {}]
  /\ life = [p \in Procs |-> 0]
  /\ broken = {}

(***************************************************************************)
(* Ordinary life.                                                          *)
(***************************************************************************)
Meet(a, b) ==
  /\ know[a] # know[b]
  /\ know' = [know EXCEPT ![a] = know[a] \cup know[b], ![b] = know[a] \cup know[b]]
  /\ UNCHANGED <<parts, nets, counts, coords, facts, losses, cutKnow, gSent, gGot, life, broken>>

\* A write and its acknowledgement: each learns what the other knew.
Write(p, s) == p \in joined /\ p \in Writers[s] /\ GateOpen(p) /\ StoreOpen(s) /\ Meet(p, s)
OutsiderWrites(o, s) == s \in QStores /\ StoreOpen(s) /\ Meet(o, s)
OutsiderCalls(o, p) == p \in joined /\ IngressOpen(p) /\ Meet(o, p)

Transmit(c) ==
  /\ sent[c] < SendsMax
  /\ sent' = [sent EXCEPT ![c] = @ + 1]
  /\ chan' = [chan EXCEPT ![c] = With(c, Message(c, sent[c] + 1))]
  /\ UNCHANGED <<parts, got, base, counts, coords, facts, losses, hist>>

Send(c) == c[1] \in joined /\ GateOpen(c[1]) /\ Transmit(c)

\* A handler that the gate did not wait for still says what is part of what it did, in the epoch before the mark.
SendBehindGate(c) ==
  LET p == c[1] IN
  /\ Overruns /\ p \in joined /\ Gated(p) /\ stage[p] = "held" /\ brk[p] = "no"
  /\ Transmit(c)

IsRecording(p, m) ==
  /\ work[p] = att /\ stage[p] \in {"entered", "resumed"} /\ Keeps("recording")
  /\ IF Keeps("colour") THEN m.e < work[p] ELSE m.e <= work[p]

\* A message of the channel's state whose sender knew of an event after a mark: a cut with it is not closed.
Tainted(p, m) == IF IsRecording(p, m) /\ m.k # {} THEN {"channel"} ELSE {}

\* C1: the epoch first, then the message. C8, C9: nothing of another generation.
Handle(c, m) ==
  LET p == c[2] IN
  /\ m \in Deliverable(c) /\ m.s > 0
  /\ p \in joined /\ GateOpen(p)
  /\ Keeps("generation") => m.g = gen[p]
  /\ Keeps("duplicates") => m.s \notin got[c]
  /\ Keeps("C1") => m.e <= ep[p]
  /\ chan' = [chan EXCEPT ![c] = Without(c, m)]
  /\ got' = [got EXCEPT ![c] = @ \cup {m.s}]
  /\ IF IsRecording(p, m)
     THEN IF Keeps("C2")
          THEN recorded' = [recorded EXCEPT ![c] = @ \cup {m.s}] /\ cGot' = cGot
          ELSE cGot' = [cGot EXCEPT ![c] = @ \cup {m.s}] /\ recorded' = recorded
     ELSE UNCHANGED <<recorded, cGot>>
  /\ heard' = [heard EXCEPT ![p] = @ \/ (work[p] = att /\ stage[p] = "held" /\ IsStranger(c[1]))]
  /\ know' = [know EXCEPT ![p] = @ \cup m.k]
  /\ broken' = broken \cup Tainted(p, m)
       \cup (IF m.e > ep[p] THEN {"C1"} ELSE {})
       \cup (IF m.s \in got[c] THEN {"C2"} ELSE {})
       \cup (IF m.l # life[p] THEN {"C9"} ELSE {})
  /\ UNCHANGED <<parts, sent, base, cSent, missing, coords, facts, losses, cutKnow, gSent, gGot, life>>

\* It arrives, and waits behind its gate or behind its channel's handler: channel state already.
Record(c, m) ==
  /\ m \in InFlight(c) /\ m.s > 0 /\ IsRecording(c[2], m) /\ m.g = gen[c[2]]
  /\ m.s \notin got[c] \cup recorded[c] /\ Keeps("C2")
  /\ recorded' = [recorded EXCEPT ![c] = @ \cup {m.s}]
  /\ broken' = broken \cup Tainted(c[2], m)
  /\ UNCHANGED <<parts, nets, cSent, cGot, missing, heard, coords, facts, losses, know, cutKnow, gSent, gGot, life>>

\* A duplicate, a marker that has done its work, or a message of an older generation.
Refuse(c, m) ==
  LET p == c[2] IN
  /\ m \in Deliverable(c) /\ p \in joined
  /\ \/ m.g < gen[p]
     \/ m.g = gen[p] /\ m.e <= ep[p] /\ (m.s = 0 \/ m.s \in got[c])
  /\ chan' = [chan EXCEPT ![c] = Without(c, m)]
  /\ UNCHANGED <<parts, sent, got, base, counts, coords, facts, losses, hist>>

Duplicate(c) ==
  /\ Dups /\ ~Fifo /\ chan[c] = {} /\ got[c] # {} /\ ep[c[1]] = ep[c[2]]
  /\ \E s \in got[c] : chan' = [chan EXCEPT ![c] = {Message(c, s)}]
  /\ UNCHANGED <<parts, sent, got, base, counts, coords, facts, losses, hist>>

LoseMessage(c, m) ==
  /\ Volatile /\ m \in Deliverable(c) /\ m.s > 0
  /\ chan' = [chan EXCEPT ![c] = Without(c, m)]
  /\ UNCHANGED <<parts, sent, got, base, counts, coords, facts, losses, hist>>

\* A process that joins learns the newest epoch that was begun (admission.ts), or has been there with an older one and
\* does not know of the cut. It may do so at any moment; what it says then is noticed by whoever is held (`heard`).
Join(p) ==
  /\ p \in Joiners \ joined
  /\ joined' = joined \cup {p}
  /\ \E e \in 0..att : ep' = [ep EXCEPT ![p] = e]
  /\ UNCHANGED <<work, stage, brk, hno, gen, nets, counts, coords, facts, losses, hist>>

(***************************************************************************)
(* Participants: hold, mark, resume, drain and capture, release.           *)
(***************************************************************************)
EpochLeft(p) == IF stage[p] \in {"marking", "entered", "resumed", "captured"} THEN Max(ep[p], work[p]) ELSE ep[p]

HoldProcess(p) ==
  /\ att > 0 /\ "quiesce" \in issued[att] /\ p \in PlannedProcs /\ p \in joined
  /\ work[p] < att /\ EpochLeft(p) < att /\ gen[p] = sysGen
  /\ work' = [work EXCEPT ![p] = att]
  /\ stage' = [stage EXCEPT ![p] = "held"]
  /\ ep' = [ep EXCEPT ![p] = EpochLeft(p)]
  /\ brk' = [brk EXCEPT ![p] = "no"]
  /\ hno' = [hno EXCEPT ![p] = 1]
  /\ Report({Fact("held", p, 1, TRUE, TRUE)})
  /\ UNCHANGED <<gen, joined, nets, counts, coords, losses, hist>>

HoldStore(s) ==
  /\ att > 0 /\ "stores" \in issued[att] /\ s \in QStores /\ work[s] < att
  /\ work' = [work EXCEPT ![s] = att]
  /\ stage' = [stage EXCEPT ![s] = "held"]
  /\ brk' = [brk EXCEPT ![s] = "no"]
  /\ Report({Fact("held", s, 1, TRUE, TRUE)})
  /\ UNCHANGED <<hno, ep, gen, joined, nets, counts, coords, losses, hist>>

\* C5: whoever crashed, a hold ends at its lease, at the place where it is held.
LeaseEnds(x) ==
  /\ LeasesEnd /\ brk[x] # "ended"
  /\ \/ x \in Procs /\ stage[x] \in {"held", "entered"}
     \/ x \in QStores /\ stage[x] \in {"held", "marked"}
  /\ brk' = [brk EXCEPT ![x] = "ended"]
  /\ UNCHANGED <<work, stage, hno, ep, gen, joined, nets, counts, coords, facts, losses, hist>>

\* A closed gate lets a request through: that hold is void. Closed again it is another hold.
Reopen(p) ==
  /\ Gated(p) /\ stage[p] = "held" /\ brk[p] = "no" /\ hno[p] < HoldsMax
  /\ brk' = [brk EXCEPT ![p] = "reopened"]
  /\ UNCHANGED <<work, stage, hno, ep, gen, joined, nets, counts, coords, facts, losses, hist>>

CloseAgain(p) ==
  /\ stage[p] = "held" /\ brk[p] = "reopened"
  /\ brk' = [brk EXCEPT ![p] = "no"]
  /\ hno' = [hno EXCEPT ![p] = @ + 1]
  /\ work' = work
  /\ Report({Fact("held", p, hno[p] + 1, TRUE, TRUE)})
  /\ UNCHANGED <<stage, ep, gen, joined, nets, counts, coords, losses, hist>>

\* The history of a mark. Marks of an attempt that is over are nobody's evidence.
TakeMark(x) ==
  IF work'[x] = att
  THEN /\ cutKnow' = [cutKnow EXCEPT ![x] = {know[x]}]
       /\ know' = [know EXCEPT ![x] = @ \cup {x}]
  ELSE UNCHANGED <<cutKnow, know>>

\* Everything that was sent since the last restore.
SentNow(c) == (base[c] + 1)..sent[c]
To(p) == {c \in Channels : c[2] = p}

Markers(p) == [c \in Channels |->
  IF c[1] = p /\ Fifo
  THEN Append(chan[c], [s |-> 0, e |-> work[p], g |-> gen[p], l |-> life[p], k |-> {}])
  ELSE chan[c]]

\* Whose message it was, the mark says.
MarkState(p, byStranger) ==
  /\ work' = work
  /\ TakeMark(p)
  /\ heard' = [heard EXCEPT ![p] = @ \/ (work[p] = att /\ byStranger)]
  /\ IF work[p] = att
     THEN /\ gSent' = [c \in Channels |-> IF c[1] = p THEN SentNow(c) ELSE gSent[c]]
          /\ gGot' = [c \in Channels |-> IF c[2] = p THEN got[c] ELSE gGot[c]]
     ELSE UNCHANGED <<gSent, gGot>>
  /\ IF Owned(p) = {}
     THEN /\ stage' = [stage EXCEPT ![p] = "entered"]
          /\ ep' = [ep EXCEPT ![p] = work[p]]
          /\ chan' = Markers(p)
          /\ IF work[p] = att
             THEN /\ cSent' = [c \in Channels |-> IF c[1] = p THEN SentNow(c) ELSE cSent[c]]
                  /\ cGot' = [c \in Channels |-> IF c[2] = p THEN got[c] ELSE cGot[c]]
             ELSE UNCHANGED <<cSent, cGot>>
          /\ Report({Fact("marked", p, 0, ~heard'[p], TRUE)})
     ELSE /\ stage' = [stage EXCEPT ![p] = "marking"]
          /\ Report({Fact("entering", p, 0, TRUE, TRUE)})
          /\ UNCHANGED <<ep, chan, cSent, cGot>>
  /\ UNCHANGED <<brk, hno, gen, joined, sent, got, base, recorded, missing, coords, losses, life, broken>>

EnterByOrder(p) ==
  /\ stage[p] = "held" /\ brk[p] = "no" /\ "mark" \in issued[work[p]]
  /\ MarkState(p, FALSE)

\* Any message or marker of the epoch is the order to enter it.
EnterByMessage(p) ==
  /\ stage[p] = "held" /\ p \in joined
  /\ Keeps("C1") /\ Keeps("entry")
  /\ \E byStranger \in BOOLEAN :
       /\ \E c \in To(p) : IsStranger(c[1]) = byStranger /\ \E m \in InFlight(c) : m.g = gen[p] /\ m.e = work[p]
       /\ MarkState(p, byStranger)

\* The stores that it owns have marked.
EnterAfterOwned(p) ==
  /\ stage[p] = "marking" /\ work[p] = att
  /\ \A s \in Owned(p) : Said("marked", s)
  /\ work' = work
  /\ stage' = [stage EXCEPT ![p] = "entered"]
  /\ ep' = [ep EXCEPT ![p] = work[p]]
  /\ chan' = Markers(p)
  /\ cSent' = [c \in Channels |-> IF c[1] = p THEN SentNow(c) ELSE cSent[c]]
  /\ cGot' = [c \in Channels |-> IF c[2] = p THEN got[c] ELSE cGot[c]]
  /\ Report({Fact("marked", p, 0, ~heard[p], TRUE)})
  /\ UNCHANGED <<brk, hno, gen, joined, sent, got, base, recorded, missing, heard, coords, losses, hist>>

\* An epoch in which it has nothing to record: it takes no part in that cut, or not any more.
AdoptEpoch(p) ==
  /\ p \in joined
  /\ \E c \in To(p) : \E m \in InFlight(c) :
       /\ m.g = gen[p] /\ m.e > ep[p]
       /\ IF stage[p] = "held"
          THEN IF m.e > work[p] THEN stage' = [stage EXCEPT ![p] = "out"]
               ELSE ~Keeps("entry") /\ m.e = work[p] /\ stage' = stage
          ELSE stage[p] # "marking" /\ stage' = stage
       /\ ep' = [ep EXCEPT ![p] = m.e]
  /\ Keeps("C1")
  /\ UNCHANGED <<work, brk, hno, gen, joined, nets, counts, coords, facts, losses, hist>>

\* A store's mark. One whose hold has ended may be marked all the same: the call was under way. `resumed` tells.
MarkStore(s) ==
  /\ att > 0
  /\ CASE Grade[s] = "quiesced" -> stage[s] = "held" /\ "mark" \in issued[work[s]] /\ work' = work
       [] Grade[s] = "gated" -> "mark" \in issued[att] /\ work[s] < att /\ work' = [work EXCEPT ![s] = att]
       [] OTHER -> /\ "mark" \in issued[att] /\ work[s] < att /\ work' = [work EXCEPT ![s] = att]
                   /\ \E p \in Writers[s] : Said("entering", p) \/ ~Keeps("entering")
  /\ stage' = [stage EXCEPT ![s] = "marked"]
  /\ TakeMark(s)
  /\ Report({Fact("marked", s, 0, TRUE, TRUE)})
  /\ UNCHANGED <<brk, hno, ep, gen, joined, nets, counts, coords, losses, gSent, gGot, life, broken>>

\* The answer says whether the hold was unbroken until now, and which one it was.
Resume(x) ==
  /\ work[x] > 0 /\ "resume" \in issued[work[x]]
  /\ stage[x] = (IF x \in Procs THEN "entered" ELSE "marked")
  /\ x \in Procs \cup QStores
  /\ stage' = [stage EXCEPT ![x] = "resumed"]
  /\ work' = work
  /\ LET truth == brk[x] = "no"
         number == IF x \in Procs THEN hno[x] ELSE 1
     IN Report({Fact("resumed", x, number, truth \/ ~Keeps("C5"), truth)})
  /\ IF x \in Procs /\ ~Keeps("counts") /\ work[x] = att
     THEN /\ cSent' = [c \in Channels |-> IF c[1] = x THEN SentNow(c) ELSE cSent[c]]
          /\ cGot' = [c \in Channels |-> IF c[2] = x THEN got[c] ELSE cGot[c]]
     ELSE UNCHANGED <<cSent, cGot>>
  /\ UNCHANGED <<brk, hno, ep, gen, joined, nets, recorded, missing, heard, coords, losses, hist>>

Undrained(c) == cSent[c] \ (cGot[c] \cup recorded[c])

\* Drain and capture of a process: when the counts agree, or at the deadline, with a deficit that is named.
CaptureProcess(p) ==
  /\ stage[p] = "resumed" /\ work[p] = att /\ "drain" \in issued[att]
  /\ (\A c \in Inbound(p) : Undrained(c) = {}) \/ MayAbort \/ ~Keeps("drain")
  /\ missing' = [c \in Channels |-> IF c \in Inbound(p) THEN Undrained(c) ELSE missing[c]]
  /\ stage' = [stage EXCEPT ![p] = "captured"]
  /\ work' = work
  /\ Report({Fact("captured", p, 0, TRUE, TRUE)})
  /\ UNCHANGED <<brk, hno, ep, gen, joined, nets, cSent, cGot, recorded, heard, coords, losses, hist>>

CaptureStore(s) ==
  /\ stage[s] = (IF s \in QStores THEN "resumed" ELSE "marked")
  /\ work[s] = att /\ "drain" \in issued[att]
  /\ stage' = [stage EXCEPT ![s] = "captured"]
  /\ work' = work
  /\ Report({Fact("captured", s, 0, TRUE, TRUE)})
  /\ UNCHANGED <<brk, hno, ep, gen, joined, nets, counts, coords, losses, hist>>

\* The epoch, once it was begun, stays used: also when the process had not come to its mark yet.
EpochsLeft(p) ==
  {EpochLeft(p)} \cup
  (IF stage[p] = "held" /\ ("mark" \in issued[work[p]] \/ \E c \in To(p) : \E m \in InFlight(c) : m.e = work[p])
   THEN {Max(ep[p], work[p])} ELSE {})

Leave(x) ==
  /\ stage' = [stage EXCEPT ![x] = "out"]
  /\ brk' = [brk EXCEPT ![x] = "no"]
  /\ IF x \in Procs THEN \E e \in EpochsLeft(x) : ep' = [ep EXCEPT ![x] = e] ELSE ep' = ep
  /\ UNCHANGED <<work, hno, gen, joined, nets, counts, coords, facts, hist>>

Release(x) == stage[x] # "out" /\ "release" \in issued[work[x]] /\ Leave(x) /\ UNCHANGED losses

\* A crash, a lost connection, a mark that could not be taken in time: it lets go, and has nothing of this cut.
Lose(x) == losses < LossesMax /\ stage[x] # "out" /\ losses' = losses + 1 /\ Leave(x)

(***************************************************************************)
(* The coordinator. Each writes records only with the greatest token.      *)
(***************************************************************************)
MayWrite(c) == c = ldr \/ ~Keeps("fencing")
Enter(c, phase) == co' = [co EXCEPT ![c] = [ph |-> phase, at |-> att]]
In(c, phase) == co[c].ph = phase /\ co[c].at = att
Issue(order) == issued' = [issued EXCEPT ![att] = @ \cup {order}]

\* Nothing of an earlier attempt is evidence of this one.
PlanCut(c) ==
  /\ co[c].ph = "idle" /\ c = ldr /\ att < AttemptsMax /\ \A p \in joined : gen[p] = sysGen
  /\ att > 0 => Procs = joined
  /\ att' = att + 1
  /\ co' = [co EXCEPT ![c] = [ph |-> "quiesce", at |-> att + 1]]
  /\ issued' = [issued EXCEPT ![att + 1] = {"quiesce"}]
  /\ rec' = [rec EXCEPT ![att + 1] = "planned"]
  /\ facts' = IF Keeps("C8") THEN {} ELSE facts
  /\ relied' = [p \in Procs |-> 0]
  /\ cSent' = [d \in Channels |-> {}]
  /\ cGot' = [d \in Channels |-> {}]
  /\ recorded' = [d \in Channels |-> {}]
  /\ missing' = [d \in Channels |-> {}]
  /\ heard' = [p \in Procs |-> FALSE]
  /\ know' = [x \in Actors |-> {}]
  /\ chan' = [d \in Channels |->
       IF Fifo THEN [i \in DOMAIN chan[d] |-> [chan[d][i] EXCEPT !.k = {}]]
       ELSE {[m EXCEPT !.k = {}] : m \in chan[d]}]
  /\ cutKnow' = [x \in Parts |-> Unmarked]
  /\ gSent' = [d \in Channels |-> {}]
  /\ gGot' = [d \in Channels |-> {}]
  /\ broken' = broken \ {"channel"}
  /\ UNCHANGED <<parts, sent, got, base, ldr, snap, sysGen, losses, life>>

\* Stores are held only when every gate is closed: a handler that runs could wait for a held store.
AskStores(c) ==
  /\ In(c, "quiesce") /\ QStores # {} /\ "stores" \notin issued[att]
  /\ \A p \in PlannedProcs : Said("held", p)
  /\ Issue("stores")
  /\ UNCHANGED <<parts, nets, counts, co, ldr, att, relied, rec, snap, sysGen, facts, losses, hist>>

\* C4. Which of its holds a process had acknowledged last, as far as this coordinator knows, it relies on.
OrderMark(c) ==
  /\ In(c, "quiesce")
  /\ Keeps("C4") => \A x \in MustHold : Said("held", x)
  /\ \E r \in [Procs -> 0..HoldsMax] :
       /\ \A p \in Procs :
            IF p \in PlannedProcs /\ Said("held", p)
            THEN \E f \in facts : f.t = "held" /\ f.x = p /\ f.n = r[p]
            ELSE r[p] = 0
       /\ relied' = r
  /\ Enter(c, "mark")
  /\ issued' = [issued EXCEPT ![att] = @ \cup {"mark"} \cup (IF Keeps("C3") THEN {} ELSE {"resume"})]
  /\ UNCHANGED <<parts, nets, counts, ldr, att, rec, snap, sysGen, facts, losses, hist>>

\* C3; and a mark that knows of a process outside the plan voids the attempt.
OrderResume(c) ==
  /\ In(c, "mark")
  /\ \A x \in Planned : Said("marked", x)
  /\ Keeps("joiners") => \A f \in facts : (f.t = "marked" /\ f.a = att) => f.u
  /\ Enter(c, "resume") /\ Issue("resume")
  /\ UNCHANGED <<parts, nets, counts, ldr, att, relied, rec, snap, sysGen, facts, losses, hist>>

IsUnbroken(x) == \E f \in facts :
  /\ f.t = "resumed" /\ f.x = x /\ f.u /\ (f.a = att \/ ~Keeps("C8"))
  /\ (x \in Procs /\ Keeps("holds")) => f.n = relied[x]

\* C5: the attempt stands only if every hold was unbroken until its order to resume arrived.
Take(c) ==
  /\ In(c, "resume") /\ MayWrite(c)
  /\ rec[att] = "planned" \/ ~Keeps("fencing")
  /\ \A x \in MustHold : IsUnbroken(x)
  /\ Enter(c, "collect") /\ Issue("drain")
  /\ rec' = [rec EXCEPT ![att] = "taken"]
  /\ UNCHANGED <<parts, nets, counts, ldr, att, relied, snap, sysGen, facts, losses, hist>>

Agrees == \A c \in Channels : missing[c] = {}

\* C6: everything is captured, and the verdict is recomputed. A deficit of a volatile channel is named, not fatal.
BeginSeal(c) ==
  /\ In(c, "collect")
  /\ \A x \in Planned : Said("captured", x)
  /\ Agrees \/ Volatile \/ ~Keeps("deficit")
  /\ Keeps("joiners") => \A d \in Channels : IsStranger(d[1]) => recorded[d] = {}
  /\ Enter(c, "seal")
  /\ UNCHANGED <<parts, nets, counts, ldr, att, issued, relied, rec, snap, sysGen, facts, losses, hist>>

WriteSnapshot(c) ==
  /\ In(c, "seal") /\ MayWrite(c) /\ att \notin snap
  /\ snap' = snap \cup {att}
  /\ UNCHANGED <<parts, nets, counts, co, ldr, att, issued, relied, rec, sysGen, facts, losses, hist>>

End(c, outcome) ==
  /\ MayWrite(c)
  /\ rec' = [rec EXCEPT ![att] = outcome]
  /\ Enter(c, "idle")
  /\ IF Keeps("release") \/ outcome = "sealed" THEN Issue("release") ELSE issued' = issued
  /\ UNCHANGED <<parts, nets, counts, ldr, att, relied, snap, sysGen, facts, losses, hist>>

RecordSealed(c) == In(c, "seal") /\ att \in snap /\ End(c, "sealed")
SealFails(c) == MayAbort /\ In(c, "seal") /\ att \notin snap /\ End(c, "aborted")

\* A deadline, a failure that was reported, a participant that was lost, a hold that was broken, somebody's wish.
Abort(c) ==
  /\ MayAbort /\ \E phase \in {"quiesce", "mark", "resume", "collect"} : In(c, phase)
  /\ End(c, "aborted")

\* The next coordinator finds the records (collect.ts: recoverCut). The one before may still believe that it leads.
TakeOver ==
  /\ ldr < CoordsMax
  /\ ldr' = ldr + 1
  /\ LET last == IF att = 0 THEN "none" ELSE rec[att]
         goesOn == last = "taken" \/ (last = "aborted" /\ ~Keeps("recovery"))
         \* While the seal is being written nobody knows whether the snapshot exists: it is written again.
         phase == IF goesOn THEN (IF \A x \in Planned : Said("captured", x) THEN "seal" ELSE "collect") ELSE "idle"
     IN /\ co' = [co EXCEPT ![ldr + 1] = [ph |-> phase, at |-> att]]
        /\ IF last = "planned"
           THEN /\ rec' = [rec EXCEPT ![att] = "aborted"]
                /\ Issue("release")
           ELSE UNCHANGED <<rec, issued>>
  /\ UNCHANGED <<parts, nets, counts, att, relied, snap, sysGen, facts, losses, hist>>

(***************************************************************************)
(* Restore: a new generation, which each process enters on its own.        *)
(***************************************************************************)
BeginRestore(c) ==
  /\ co[c].ph = "idle" /\ c = ldr /\ snap # {} /\ sysGen <= RestoresMax
  /\ \A p \in Procs : gen[p] = sysGen
  /\ \A x \in Parts : stage[x] = "out"
  /\ sysGen' = sysGen + 1
  /\ UNCHANGED <<parts, nets, counts, co, ldr, att, issued, relied, rec, snap, facts, losses, hist>>

EnterGeneration(p) ==
  /\ gen[p] < sysGen
  /\ gen' = [gen EXCEPT ![p] = sysGen]
  /\ ep' = [ep EXCEPT ![p] = Max(ep[p], att)]
  /\ life' = [life EXCEPT ![p] = @ + 1]
  /\ got' = [c \in Channels |-> IF c[2] = p THEN {} ELSE got[c]]
  /\ base' = [c \in Channels |-> IF c[1] = p THEN sent[c] ELSE base[c]]
  /\ know' = [know EXCEPT ![p] = {}]
  /\ UNCHANGED <<work, stage, brk, hno, joined, chan, sent, counts, coords, facts, losses, cutKnow, gSent, gGot, broken>>

\* The fault: a restore that keeps the generation. What was in flight before it is accepted after it.
RestoreInPlace(p) ==
  /\ ~Keeps("C9") /\ snap # {} /\ life[p] < RestoresMax /\ stage[p] = "out"
  /\ life' = [life EXCEPT ![p] = @ + 1]
  /\ got' = [c \in Channels |-> IF c[2] = p THEN {} ELSE got[c]]
  /\ UNCHANGED <<parts, chan, sent, base, counts, coords, facts, losses, know, cutKnow, gSent, gGot, broken>>

(***************************************************************************)
Life ==
  \/ \E p \in Procs, s \in Stores : Write(p, s)
  \/ \E o \in Outsiders : (\E s \in Stores : OutsiderWrites(o, s)) \/ (\E p \in Procs : OutsiderCalls(o, p))
  \/ \E c \in Channels : Send(c) \/ SendBehindGate(c) \/ Duplicate(c)
  \/ \E c \in Channels : \E m \in Deliverable(c) : Handle(c, m) \/ Refuse(c, m) \/ LoseMessage(c, m)
  \/ \E c \in Channels : \E m \in InFlight(c) : Record(c, m)
  \/ \E p \in Procs : Join(p)

Protocol ==
  \/ \E p \in Procs : HoldProcess(p) \/ EnterByOrder(p) \/ EnterByMessage(p) \/ EnterAfterOwned(p)
                      \/ AdoptEpoch(p) \/ CaptureProcess(p) \/ Reopen(p) \/ CloseAgain(p)
  \/ \E s \in Stores : HoldStore(s) \/ MarkStore(s) \/ CaptureStore(s)
  \/ \E x \in Parts : LeaseEnds(x) \/ Resume(x) \/ Release(x) \/ Lose(x)

Coordination ==
  \/ \E c \in 1..CoordsMax :
       \/ PlanCut(c) \/ AskStores(c) \/ OrderMark(c) \/ OrderResume(c) \/ Take(c)
       \/ BeginSeal(c) \/ WriteSnapshot(c) \/ RecordSealed(c) \/ SealFails(c) \/ Abort(c)
       \/ BeginRestore(c)
  \/ TakeOver
  \/ \E p \in Procs : EnterGeneration(p) \/ RestoreInPlace(p)

Next == Life \/ Protocol \/ Coordination

Spec == Init /\ [][Next]_vars

(***************************************************************************)
(* The invariants, named as in the design.                                 *)
(***************************************************************************)
IsSealed == att > 0 /\ att \in snap
IsConsistent == IsSealed /\ Agrees

\* Closed under happens-before: no mark, and no message of a channel's state, knows of an event after somebody's mark.
Closed == IsSealed => "channel" \notin broken /\ \A x \in Planned : cutKnow[x] \subseteq {{}}

\* C1: no message of epoch k or later is handled before its receiver has entered epoch k.
C1 == "C1" \notin broken

\* C2, conservation: what was sent before the mark was handled before the receiver's, is recorded, or is named as
\* missing: exactly one of them, and handled once. Only a channel that may lose messages may have missing ones.
C2 ==
  /\ "C2" \notin broken
  /\ IsSealed => (Agrees \/ Volatile) /\ \A c \in Channels :
       (c[1] \in PlannedProcs /\ c[2] \in PlannedProcs) =>
         /\ gSent[c] = gGot[c] \cup recorded[c] \cup missing[c]
         /\ gGot[c] = cGot[c] /\ gSent[c] = cSent[c]
         /\ gGot[c] \cap recorded[c] = {} /\ missing[c] \cap (gGot[c] \cup recorded[c]) = {}

\* C3: nobody is resumed by order before every participant has marked.
C3 == (att > 0 /\ \E x \in Parts : work[x] = att /\ stage[x] = "resumed") => \A x \in Planned : IsMarked(x)

\* C4: nobody marks before every hold of the plan was acknowledged, unless the attempt is void anyway: a mark says so.
C4 == (att > 0 /\ rec[att] # "aborted" /\ ~(\E p \in PlannedProcs : heard[p]) /\ \E x \in Parts : IsMarked(x)) =>
  \A x \in MustHold : \E f \in facts : f.t = "held" /\ f.x = x /\ f.a = att

\* C5: no hold of a sealed cut was broken between its acknowledgement and its order to resume, and it is the one that
\* the marks relied on.
C5 == IsSealed => \A x \in MustHold : \A f \in facts :
  (f.t = "resumed" /\ f.x = x /\ f.a = att) => f.v /\ (x \in Procs => f.n = relied[x])

\* C6: at most one outcome; a snapshot only of what was taken and is captured.
C6 ==
  /\ \A a \in snap : rec[a] \in {"taken", "sealed"}
  /\ \A a \in Attempts : rec[a] = "sealed" => a \in snap
  /\ IsSealed => \A x \in Planned : \E f \in facts : f.t = "captured" /\ f.x = x

\* C7: whoever has been reached after the end holds nothing, and everybody lets go in the end (C7Live).
C7 == \A x \in Parts : stage[x] = "out" => (IF x \in Procs THEN GateOpen(x) /\ IngressOpen(x) ELSE StoreOpen(x))

\* C8: a sealed cut consists of marks of its own attempt.
C8 == IsSealed => \A x \in Planned : IsMarked(x)

\* C9: nothing that was sent before a restore is handled after it.
C9 == "C9" \notin broken

Messages == [s : 0..SendsMax, e : 0..AttemptsMax, g : 1..(RestoresMax + 1), l : 0..RestoresMax, k : SUBSET Parts]
TypeOK ==
  /\ stage \in [Parts -> {"out", "held", "marking", "entered", "marked", "resumed", "captured"}]
  /\ heard \in [Procs -> BOOLEAN]
  /\ work \in [Parts -> 0..AttemptsMax] /\ ep \in [Procs -> 0..AttemptsMax]
  /\ brk \in [Parts -> {"no", "reopened", "ended"}] /\ hno \in [Procs -> 0..HoldsMax]
  /\ chan \in [Channels -> IF Fifo THEN Seq(Messages) ELSE SUBSET Messages]
  /\ know \in [Actors -> SUBSET Parts] /\ cutKnow \in [Parts -> SUBSET SUBSET Parts]
  /\ rec \in [Attempts -> {"none", "planned", "taken", "sealed", "aborted"}]

(***************************************************************************)
(* Liveness.                                                               *)
(***************************************************************************)
Fair ==
  /\ \A p \in Procs :
       /\ WF_vars(HoldProcess(p)) /\ WF_vars(EnterByOrder(p)) /\ WF_vars(EnterByMessage(p))
       /\ WF_vars(EnterAfterOwned(p)) /\ WF_vars(CaptureProcess(p)) /\ WF_vars(CloseAgain(p))
       /\ WF_vars(AdoptEpoch(p))
  /\ \A s \in Stores : WF_vars(HoldStore(s)) /\ WF_vars(MarkStore(s)) /\ WF_vars(CaptureStore(s))
  /\ \A x \in Parts : WF_vars(Resume(x)) /\ WF_vars(Release(x))
  /\ \A c \in Channels : WF_vars(\E m \in Deliverable(c) : Handle(c, m) \/ Refuse(c, m))
  /\ \A c \in 1..CoordsMax :
       /\ WF_vars(AskStores(c)) /\ WF_vars(OrderMark(c)) /\ WF_vars(OrderResume(c)) /\ WF_vars(Take(c))
       /\ WF_vars(BeginSeal(c)) /\ WF_vars(WriteSnapshot(c)) /\ WF_vars(RecordSealed(c)) /\ WF_vars(Abort(c))

FairSpec == Spec /\ Fair

IsOver(a) == rec[a] \in {"sealed", "aborted"}

\* C10: every cut is sealed or aborted. Deadlines are `Abort`.
C10 == \A a \in Attempts : (rec[a] = "planned") ~> IsOver(a)

\* With nobody giving up and nothing lost, every cut is sealed: the rules themselves never stand in each other's way.
C10Sealed == \A a \in Attempts : (rec[a] = "planned") ~> (rec[a] = "sealed")

\* C7: what was held is let go.
C7Live == \A x \in Parts : (att > 0 /\ IsOver(att)) ~> (stage[x] = "out" \/ ~IsOver(att))

Symmetry == Permutations(Procs)
OutsiderSymmetry == Permutations(Outsiders)
=============================================================================
