------------------------------ MODULE CutTrace ------------------------------
(***************************************************************************)
(* Are recorded runs of the production machines behaviours of Cut?         *)
(*                                                                         *)
(* `Traces` is what packages/core/src/cut/testing/trace-export.ts wrote    *)
(* down; scripts/run-spec.ts makes a module of it. Each step must be a     *)
(* step of Cut, with the numbers that the machines reported; in between    *)
(* only what a recorder cannot see may happen (`Hidden`). A trace that     *)
(* was gone through prints `accepted`; all invariants are checked on the   *)
(* way.                                                                    *)
(***************************************************************************)
EXTENDS Cut

CONSTANT Traces

VARIABLES
  t, i,
  over  \* the processes whose gate is closed though handlers run

\* Kept in TLC's register 0: read from the constant, all traces would be evaluated anew at every step.
ASSUME TLCSet(0, Traces)
Steps == TLCGet(0)[t]

traceVars == <<vars, t, i, over>>

Coordinator == 1

Dropped(c, s) == \E m \in Deliverable(c) : m.s = s /\ Handle(c, m)
RecordedNow(c, s) == \E m \in InFlight(c) : m.s = s /\ Record(c, m)

Adopts(p, epoch) ==
  \/ ep[p] = epoch /\ UNCHANGED vars
  \/ AdoptEpoch(p) /\ ep'[p] = epoch

Reported(x, drains) == \A k \in DOMAIN drains :
  drains[k].c \in Channels =>
    /\ recorded[drains[k].c] = drains[k].recorded
    /\ missing'[drains[k].c] = drains[k].missing

\* What is said behind a closed gate, a handler says that still runs.
Sends(c) == Send(c) \/ (c[1] \in over /\ SendBehindGate(c))

Do(s) ==
  CASE s.e = "planned" -> PlanCut(Coordinator)
    [] s.e = "held" -> IF s.x \in Procs THEN HoldProcess(s.x) ELSE HoldStore(s.x)
    [] s.e = "closedAgain" -> CloseAgain(s.x) /\ hno'[s.x] = s.n
    [] s.e = "reopened" -> Reopen(s.x)
    [] s.e = "leaseEnded" -> LeaseEnds(s.x)
    [] s.e = "markOrdered" -> OrderMark(Coordinator) /\ \A p \in DOMAIN s.reliedOn : relied'[p] = s.reliedOn[p]
    [] s.e = "entering" -> (EnterByOrder(s.x) \/ EnterByMessage(s.x)) /\ stage'[s.x] = "marking"
    [] s.e = "marked" -> IF s.x \in Stores THEN MarkStore(s.x)
                         ELSE /\ EnterByOrder(s.x) \/ EnterByMessage(s.x) \/ EnterAfterOwned(s.x)
                              /\ stage'[s.x] = "entered"
    [] s.e = "resumeOrdered" -> OrderResume(Coordinator)
    [] s.e = "resumed" -> Resume(s.x) /\ \E f \in facts' : f.t = "resumed" /\ f.x = s.x /\ f.n = s.n /\ f.u = s.u
    [] s.e = "taken" -> Take(Coordinator)
    [] s.e = "captured" -> IF s.x \in Stores THEN CaptureStore(s.x) ELSE CaptureProcess(s.x) /\ Reported(s.x, s.channels)
    [] s.e = "sealed" -> RecordSealed(Coordinator)
    [] s.e = "aborted" -> Abort(Coordinator) \/ SealFails(Coordinator)
    [] s.e = "left" -> IF "release" \in issued[work[s.x]] THEN Release(s.x) ELSE Lose(s.x)
    [] s.e = "adopted" -> Adopts(s.x, s.n)
    [] s.e = "sent" -> ep[s.c[1]] = s.n /\ sent[s.c] + 1 = s.s /\ Sends(s.c)
    [] s.e = "handled" -> Dropped(s.c, s.s)
    [] s.e = "recorded" -> RecordedNow(s.c, s.s)

Overrunning(s) ==
  IF s.e \notin {"held", "closedAgain"} THEN over ELSE IF s.o THEN over \cup {s.x} ELSE over \ {s.x}

\* The coordinator asks stores and seals in one call; markers do their work on the way. Each where it is needed.
Hidden(next) ==
  \/ next.e = "held" /\ next.x \in Stores /\ AskStores(Coordinator)
  \/ next.e \in {"sealed", "aborted"} /\ (BeginSeal(Coordinator) \/ (next.e = "sealed" /\ WriteSnapshot(Coordinator)))
  \/ next.e = "handled" /\ \E m \in Deliverable(next.c) : m.s = 0 /\ Refuse(next.c, m)

TraceInit == Init /\ t \in DOMAIN Traces /\ i = 0 /\ over = {}

TraceNext ==
  \/ i < Len(Steps) /\ Do(Steps[i + 1]) /\ i' = i + 1 /\ t' = t /\ over' = Overrunning(Steps[i + 1])
  \/ i < Len(Steps) /\ Hidden(Steps[i + 1]) /\ UNCHANGED <<t, i, over>>

TraceSpec == TraceInit /\ [][TraceNext]_traceVars

\* Always true: says how far each trace was followed.
ASSUME \A k \in DOMAIN Traces : TLCSet(k, 0)
Followed ==
  IF i > TLCGet(t)
  THEN TLCSet(t, i) /\ (IF i = Len(Steps) THEN PrintT("accepted " \o ToString(t)) ELSE PrintT("step " \o ToString(t) \o " " \o ToString(i)))
  ELSE TRUE
=============================================================================
