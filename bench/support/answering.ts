/** The child's side of `Child.ask`: answers each question that the bench sends. */
export function answerQuestions<Question>(answer: (question: Question) => Promise<unknown>): void {
  process.on('message', (question) => {
    answer(question as Question).then(
      (given) => process.send!({ answer: given ?? null }),
      (error: unknown) => process.send!({ error: error instanceof Error ? error.message : String(error) }),
    )
  })
  // Keeps the process until it is told to end, whatever else it has to do.
  process.channel?.ref()
}
